"""`shortlist serve`: an OpenAI-compatible server."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shortlist.cli import options as shared
from shortlist.cli.extras import require
from shortlist.cli.loading import load_model
from shortlist.cli.unused import refuse_unused
from shortlist.errors import UsageError

if TYPE_CHECKING:
    from shortlist.engine.model import Model

KEYS_VARIABLE = "SHORTLIST_API_KEYS"


@dataclass(frozen=True)
class Limits:
    """Options of a server, those of `ServerSettings`."""

    slots: Annotated[int, typer.Option("--slots", min=1, help="Requests worked on at once.")] = 8
    queue: Annotated[
        int, typer.Option("--queue", min=1, help="Texts that may wait; more are refused with 429.")
    ] = 64
    connections: Annotated[
        int, typer.Option("--connections", min=1, help="Connections at once; more are refused with 503.")
    ] = 512
    kv_tokens: Annotated[
        int | None,
        typer.Option(
            "--kv-tokens", min=1, help="Tokens of all texts that are kept at once; else every context."
        ),
    ] = None
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds that a request may take.")] = 600.0
    max_body: Annotated[int, typer.Option("--max-body", help="Bytes of a request, at most.")] = 8_000_000
    max_prompt: Annotated[
        int | None, typer.Option("--max-prompt", help="Tokens of a prompt, at most; else the context.")
    ] = None
    audit: Annotated[
        int | None, typer.Option("--audit", min=1, help="Compare every so many tokens with the dense head.")
    ] = None
    log_prompts: Annotated[
        bool, typer.Option("--log-prompts", help="Write prompts and answers to the log.")
    ] = False


@shared.grouped
def serve(
    model: shared.ModelName,
    *,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 is every one of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000,
    name: Annotated[
        str | None,
        typer.Option("--name", help="Name of the model for clients; by default MODEL without folders."),
    ] = None,
    limits: Limits,
    drain: Annotated[
        int, typer.Option("--drain", min=0, help="Seconds that requests have to end after Ctrl-C.")
    ] = 10,
    api_key: Annotated[
        list[str] | None,
        typer.Option("--api-key", help=f"Ask for this key; may be repeated. Also from {KEYS_VARIABLE}."),
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option("--api-key-file", help="A file with one key on each line.")
    ] = None,
    cors: Annotated[
        list[str] | None, typer.Option("--cors", metavar="ORIGIN", help="Let pages of ORIGIN use it.")
    ] = None,
    loading: shared.Loading,
) -> None:
    """Serve MODEL with OpenAI's API until Ctrl-C."""
    require("serve", "serving")
    from shortlist.server.listen import bind, listen
    from shortlist.server.settings import ServerSettings

    settings = ServerSettings(  # before the model is loaded, so that a mistake costs no time
        name=name or _name_of(model),
        api_keys=(*(api_key or ()), *_more_keys(api_key_file)),
        cors=tuple(cors or ()),
        **vars(limits),
    )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    with bind(host, port) as socket, load_model(model, **vars(loading)) as loaded:
        _refuse_unused(limits, loaded)
        listen(loaded, settings, socket, drain_seconds=drain)


def _refuse_unused(limits: Limits, loaded: "Model") -> None:
    refuse_unused(
        "--max-prompt",
        limits.max_prompt is not None and limits.max_prompt > loaded.context,
        f"above the context of {loaded.context} tokens: give less, or leave it out",
    )
    refuse_unused(
        "--audit",
        limits.audit is not None and loaded.head.name == "dense",
        "where the head is dense, with which it compares: leave it out, or name another --head",
    )


def _name_of(model: str) -> str:
    """The name of a model for clients: the name that the user gave, or its file name without folders."""
    path = Path(model)
    return path.name.removesuffix(".gguf") if path.exists() else model


def _more_keys(file: Path | None) -> list[str]:
    """Keys from a file and from the environment, where they do not stand in the list of processes."""
    lines = os.environ.get(KEYS_VARIABLE, "").replace(",", "\n").splitlines()
    if file is not None:
        try:
            lines += file.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the API keys in {file} cannot be read: {error}") from None
        if not any(line.strip() for line in lines):
            raise UsageError(f"{file} holds no API key: write one on each line")
    return [line.strip() for line in lines if line.strip()]
