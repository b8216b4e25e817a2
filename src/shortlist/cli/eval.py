"""`shortlist eval`: quality and bytes of a shortlisted model against the dense one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shortlist.cli import options as shared
from shortlist.cli.loading import load_model
from shortlist.cli.output import megabytes, print_json, progress_bar
from shortlist.cli.tables import console, print_table
from shortlist.cli.terminal import note
from shortlist.cli.text_input import read_text
from shortlist.errors import UsageError

if TYPE_CHECKING:
    from shortlist.engine.model import Model


def evaluate(
    model: shared.ModelName,
    text: Annotated[str, typer.Option("--text", metavar="FILE", help="Text to predict, token by token.")],
    tokens: Annotated[
        int | None, typer.Option("--tokens", min=2, help="Use this many of its first tokens; all by default.")
    ] = None,
    head: shared.Head = "auto",
    exact: shared.Exact = False,
    ffn: shared.Ffn = "auto",
    recipe: shared.Recipe = None,
    weights: shared.Weights = None,
    threads: shared.Threads = None,
    json: shared.Json = False,
) -> None:
    """Compare MODEL with itself when all is dense, over a text: perplexity, agreement, recall, bytes."""
    content = read_text(text)
    options = {"weights": weights, "threads": threads}
    with load_model(model, head=head, exact=exact, ffn=ffn, recipe=recipe, **options) as loaded:
        from shortlist.measure.on_text import Pair, compare_on_text
        from shortlist.sites.head import Head

        encoded = loaded.tokenizer.encode(content, add_special=False)[:tokens]
        if not encoded:
            raise UsageError(f"{text} is empty: name a file with some text to predict")
        if tokens is not None and len(encoded) < tokens:
            note(f"{text} has only {len(encoded)} tokens: all are used")
        if _is_dense(loaded):
            note(
                f"all of {model} is dense here, so both columns are the same: "
                f"name --exact or --recipe, or run shortlist fit {model}"
            )
        with progress_bar("measuring") as progress, _dense(loaded, model, options) as dense:
            quality = compare_on_text(
                encoded,
                loaded.tokenizer.encode(""),
                Pair(dense.decoder, Head(dense.decoder.head_rows, dense.decoder.logit_cap)),
                Pair(loaded.decoder, loaded.head),
                progress,
            )
        result = {
            "model": model,
            "head": loaded.head.name,
            **quality.to_dict(),
            "recipe": loaded.recipe and loaded.recipe.summary(),
        }
    if json:
        print_json(result)
    else:
        print_report(result)


def _is_dense(loaded: "Model") -> bool:
    return loaded.head.name == "dense" and _has_dense_layers(loaded)


def _has_dense_layers(loaded: "Model") -> bool:
    return loaded.decoder.ffn == "dense" and not loaded.decoder.channels_read


@contextmanager
def _dense(loaded: "Model", name: str, options: dict[str, Any]) -> "Iterator[Model]":
    """The same model with dense layers: the loaded one if its layers are dense, else loaded once more."""
    if _has_dense_layers(loaded):
        yield loaded
        return
    with load_model(name, head="dense", exact=False, ffn="dense", **options) as dense:
        yield dense


def print_report(report: dict[str, Any]) -> None:
    """Print dense and shortlisted side by side."""
    from rich.table import Table

    dense, shortlisted = report["dense"], report["shortlisted"]
    table = Table(title=f"{report['model']}, {report['tokens']} tokens")
    for heading in ("", "dense", report["head"]):
        table.add_column(heading, justify="right" if heading else "left")
    change = shortlisted["perplexity_change"]
    table.add_row(
        "perplexity", f"{dense['perplexity']:.4f}", f"{shortlisted['perplexity']:.4f} ({change:+.4%})"
    )
    table.add_row(
        "read per token", megabytes(dense["bytes_per_token"]), megabytes(shortlisted["bytes_per_token"])
    )
    table.add_row("head rows read", "100 %", f"{shortlisted['rows_share']:.2%}")
    table.add_row("agreement of greedy tokens", "", f"{shortlisted['agreement']:.3%}")
    table.add_row("recall of the dense winner", "", f"{shortlisted['recall']:.3%}")
    table.add_row("total variation distance", "", f"{shortlisted['total_variation']:.2e}")
    print_table(console(), table)
