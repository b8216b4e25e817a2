"""`shortlist tune`: the fastest recipe within a quality budget."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shortlist.cli import options as shared
from shortlist.cli.inspect import describe_recipe
from shortlist.cli.output import print_json, stage_bars
from shortlist.cli.stages import TUNE_STAGES
from shortlist.cli.tables import console, print_table
from shortlist.cli.text_input import read_text
from shortlist.errors import UsageError
from shortlist.paths import check_writable

if TYPE_CHECKING:
    from shortlist.fit.tune import Tuned


def tune(
    model: shared.ModelName,
    text: Annotated[
        str,
        typer.Option(
            "--text", metavar="FILE", help="Tuned on its first half and verified on its second, in UTF-8."
        ),
    ],
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FOLDER", help="The folder of the recipe to write.")
    ],
    max_perplexity: Annotated[
        str, typer.Option("--max-perplexity", metavar="SHARE", help="By how much perplexity may rise.")
    ] = "0.5%",
    min_agreement: Annotated[
        str,
        typer.Option(
            "--min-agreement", metavar="SHARE", help="Least share of greedy tokens that stay the same."
        ),
    ] = "0%",
    max_seconds: Annotated[
        float | None, typer.Option("--max-seconds", help="Time for all of it; the best by then is kept.")
    ] = None,
    weights: shared.Weights = None,
    threads: shared.Threads = None,
    json: shared.Json = False,
) -> int:
    """Find what to shortlist where in MODEL: the fastest recipe whose perplexity stays within a budget.

    Ctrl-C verifies and keeps the best recipe so far (exit code 130); a second one keeps it unverified.
    """
    from shortlist import checkpoints, recipe
    from shortlist.fit.tune import Goal
    from shortlist.fit.tune import tune as tune_recipe
    from shortlist.model.tokenizer.tokenizer import Tokenizer

    goal = Goal(
        parse_share(max_perplexity, "--max-perplexity"),
        parse_share(min_agreement, "--min-agreement"),
        max_seconds,
    )
    content = read_text(text)
    check_writable(Path(output))
    with (
        checkpoints.open_checkpoint(checkpoints.resolve(model)) as checkpoint,
        stage_bars(TUNE_STAGES) as report,
    ):
        tuned = tune_recipe(
            checkpoint,
            Tokenizer.from_checkpoint(checkpoint),
            model,
            content,
            goal,
            weights=weights,
            threads=threads,
            report=report,
        )
    recipe.save(tuned.recipe, Path(output))
    summary = tuned.recipe.summary()
    if json:
        ended = {"interrupted": tuned.interrupted, "out_of_time": tuned.out_of_time, "found": tuned.found}
        print_json({"recipe": output, "verified": tuned.verified, **ended, **summary})
    else:
        print_report(summary, tuned, output)
    return 130 if tuned.interrupted else 0


def parse_share(value: str, option: str) -> float:
    """Parse a percentage: `0.5%` is 0.005.

    Raises
    ------
    UsageError
        The value is no number with a per cent sign; 0.5 alone is ambiguous.
    """
    try:
        if not value.endswith("%"):
            raise ValueError
        return float(value.removesuffix("%")) / 100
    except ValueError:
        raise UsageError(f"{option} {value} is not a share: write it like 0.5%") from None


def print_report(summary: dict[str, Any], tuned: "Tuned", output: str) -> None:
    """Print the recipe, its measurements and the command that uses it."""
    out = console()
    print_table(out, describe_recipe(summary))
    if tuned.interrupted:
        out.print("interrupted: this is the best of what was looked at by then", soft_wrap=True)
    if tuned.out_of_time:
        out.print(
            "out of time: this is the best of what was looked at; --max-seconds gives more", soft_wrap=True
        )
    if not tuned.found:
        out.print(
            "nothing was found that is faster here and within the budget: all stays dense", soft_wrap=True
        )
    if not tuned.verified:
        out.print("not verified, because the work was interrupted: measure it with eval", soft_wrap=True)
    out.print(f"use it with --recipe {output}", soft_wrap=True)
