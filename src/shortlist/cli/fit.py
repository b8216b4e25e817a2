"""`shortlist fit`: fit a model's estimated head, once, and keep its recipe in the cache."""

from typing import TYPE_CHECKING, Annotated

import typer

from shortlist.cli import options as shared
from shortlist.cli.output import print_json, stage_bars
from shortlist.cli.stages import FIT_STAGES
from shortlist.cli.text_input import read_text

if TYPE_CHECKING:
    from shortlist.recipe import Recipe


def fit(
    model: shared.ModelName,
    text: Annotated[
        str | None,
        typer.Option("--text", metavar="FILE", help="Text to fit to; left out, the model writes its own."),
    ] = None,
    weights: shared.Weights = None,
    threads: shared.Threads = None,
    json: shared.Json = False,
) -> None:
    """Fit the estimated head of MODEL, in about a minute; it is used from then on where it is faster."""
    content = None if text is None else read_text(text)
    from shortlist.fit.fitting import fit as fit_head

    with stage_bars(FIT_STAGES) as report:
        recipe = fit_head(model, text=content, weights=weights, threads=threads, report=report)
    if json:
        print_json(recipe.summary())
    else:
        print("\n".join(describe_fit(model, recipe)))


def fitted(model: str, threads: int | None = None) -> "Recipe":
    """The recipe of a model's head from the cache; if there is none, fit it now, with a progress bar."""
    from shortlist.fit.fitting import fit as fit_head

    with stage_bars(FIT_STAGES) as report:
        return fit_head(model, threads=threads, again=False, report=report)


def describe_fit(model: str, recipe: "Recipe") -> list[str]:
    """The result of fitting, in sentences."""
    from shortlist.engine.choose_head import how_often_it_differs

    seconds = recipe.measured["head"]["seconds_per_token"]
    speed = f"{seconds['dense'] / seconds['estimated']:.2f} times as fast as with the dense one"
    lines = [
        f"A token of {model} with the estimated head is {speed}, and {how_often_it_differs(recipe.measured)}."
    ]
    if recipe.head == "estimated":
        lines.append("It is used from now on; --head dense or --exact gives the dense text.")
    else:
        lines.append(
            f"The {recipe.head} head is used, whose text never differs and which is about as fast here; "
            "--head estimated takes the other."
        )
    return lines
