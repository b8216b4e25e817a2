"""Runs a server: binds an address, prints the model and the address, and listens until a signal."""

import asyncio
import math
import socket as sockets
import sys

import uvicorn
from fastapi import FastAPI

from shortlist.engine.model import Model
from shortlist.errors import UsageError
from shortlist.memory import peak_rss_bytes
from shortlist.server.app import create_app
from shortlist.server.connections import limited
from shortlist.server.service import Service
from shortlist.server.settings import ServerSettings

BACKLOG = 2048

KEEP_ALIVE = 75
"""Seconds until an idle connection is closed: longer than in load balancers (nginx: 60), because closing
a connection while a request is on its way fails that request."""

PATIENCE = 3
"""Seconds that connections have to end after their answers were cancelled."""


def bind(host: str, port: int) -> sockets.socket:
    """Make a socket that is bound to an address; clients cannot connect to it yet.

    Raises
    ------
    UsageError
        The address cannot be used.
    """
    try:
        family, kind, protocol, _, address = sockets.getaddrinfo(host, port, type=sockets.SOCK_STREAM)[0]
        # Without a protocol in the socket, asyncio leaves Nagle's algorithm on, which costs 40 ms per answer.
        socket = sockets.socket(family, kind, protocol)
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


def listen(model: Model, settings: ServerSettings, socket: sockets.socket, *, drain_seconds: float) -> None:
    """Serve until SIGINT or SIGTERM; requests then have `drain_seconds` to end."""
    host, port = socket.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    app = create_app(model, settings)
    server = Server(app, settings, drain_seconds, introduction(model, settings, url))
    server.run(sockets=[socket])


def introduction(model: Model, settings: ServerSettings, url: str) -> str:
    """The first line that `serve` prints."""
    recipe = f"recipe for {model.recipe.model}" if model.recipe else "no recipe"
    facts = (
        f"{settings.name} ({model.config.family})",
        f"{model.head.name} head, {recipe}",
        f"{model.decoder.threads} threads",
        f"{peak_rss_bytes() / 1e6:.0f} MB",
    )
    return f"{url}  {'  '.join(facts)}"


class Server(uvicorn.Server):
    """A uvicorn server that prints a line once it is ready, and lets answers end before it shuts down.

    Parameters
    ----------
    app
        An application of `create_app`.
    settings
        The settings of the application.
    drain_seconds
        Seconds that requests have to end by themselves; the rest is cancelled, and clients get an error.
    ready
        The line to print; nothing is printed where it is empty.
    """

    def __init__(self, app: FastAPI, settings: ServerSettings, drain_seconds: float, ready: str = ""):
        config = uvicorn.Config(
            app,
            http=limited(settings.connections),
            log_config=None,
            access_log=False,  # clients choose paths; `limits` logs the endpoints
            server_header=False,
            lifespan="on",
            ws="none",
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE,
            # Connections may stay open although their answers have ended.
            timeout_graceful_shutdown=math.ceil(drain_seconds) + PATIENCE,
        )
        super().__init__(config)
        self._app, self._drain_seconds, self._ready = app, drain_seconds, ready

    async def startup(self, sockets: list[sockets.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._ready:
            print(self._ready, flush=True)
            print("Ctrl-C stops it.", file=sys.stderr)

    async def shutdown(self, sockets: list[sockets.socket] | None = None) -> None:
        service: Service = self._app.state.service
        service.closing = True
        timer = asyncio.get_running_loop().call_later(self._drain_seconds, service.cancel)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()
