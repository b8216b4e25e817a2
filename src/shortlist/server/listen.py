"""From an address to a running server: bind, say what is served, listen until told to stop."""

import socket as sockets
import sys

import uvicorn

from shortlist import _native
from shortlist.engine.model import Model
from shortlist.errors import UsageError
from shortlist.memory import peak_rss_bytes
from shortlist.server.app import create_app
from shortlist.server.settings import ServerSettings

BACKLOG = 2048


def bind(host: str, port: int) -> sockets.socket:
    """A socket with an address; nobody can connect to it yet.

    Raises
    ------
    UsageError
        The address cannot be used.
    """
    try:
        family, *_, address = sockets.getaddrinfo(host, port, type=sockets.SOCK_STREAM)[0]
        socket = sockets.socket(family, sockets.SOCK_STREAM)
        try:
            socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
            socket.bind(address)
        except BaseException:
            socket.close()
            raise
        return socket
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(
            f"cannot listen on {host} port {port} ({reason}): choose another --port or --host"
        ) from None


def listen(model: Model, settings: ServerSettings, socket: sockets.socket, *, drain_seconds: int) -> None:
    """Serve until SIGINT or SIGTERM; requests then have `drain_seconds` to end."""
    host, port = socket.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    config = uvicorn.Config(
        create_app(model, settings),
        log_config=None,
        access_log=False,  # paths are the clients' to choose; `limits` logs the endpoints
        server_header=False,
        lifespan="on",
        ws="none",
        backlog=BACKLOG,
        timeout_graceful_shutdown=drain_seconds,
    )
    _Server(config, introduction(model, settings, url)).run(sockets=[socket])


def introduction(model: Model, settings: ServerSettings, url: str) -> str:
    """The line that `serve` begins with."""
    recipe = f"recipe for {model.recipe.model}" if model.recipe else "no recipe"
    facts = (
        f"{settings.name} ({model.config.family})",
        f"{model.head.name} head, {recipe}",
        f"{_native.threads()} threads",
        f"{peak_rss_bytes() / 1e6:.0f} MB",
    )
    return f"{url}  {'  '.join(facts)}"


class _Server(uvicorn.Server):
    """Says that it is ready once it is."""

    def __init__(self, config: uvicorn.Config, ready: str):
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[sockets.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(self._ready, flush=True)
            print("Ctrl-C stops it.", file=sys.stderr)
