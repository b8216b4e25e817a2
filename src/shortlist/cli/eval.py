"""`shortlist eval`: measure what the shortlist costs in quality, against the dense head."""

from typing import Annotated

import typer

from shortlist.cli import options as shared


def evaluate(
    model: shared.ModelName,
    text: Annotated[str, typer.Option("--text", metavar="FILE", help="Text to predict, token by token.")],
    tokens: Annotated[
        int | None, typer.Option("--tokens", min=2, help="Most tokens of it; all by default.")
    ] = None,
    head: shared.Head = "auto",
    exact: shared.Exact = False,
    recipe: shared.Recipe = None,
    weights: shared.Weights = None,
    threads: shared.Threads = None,
    json: shared.Json = False,
) -> None:
    """Compare MODEL with its dense self over a text: perplexity, agreement, recall, bytes per token."""
    raise NotImplementedError
