"""`shortlist convert`: converts a dense model to a mixture of experts."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from shortlist.cli import options as shared
from shortlist.cli.extras import require
from shortlist.cli.output import megabytes, print_json, stage_bars
from shortlist.cli.tables import console, print_table
from shortlist.cli.text_input import read_text
from shortlist.cli.tune import parse_share
from shortlist.cli.unused import refuse_unused
from shortlist.errors import UsageError

if TYPE_CHECKING:
    from shortlist.torch.convert.pipeline import Conversion, Stage

MOST_LAYERS = 4096
STAGES = {
    "write": "the model writes a text",
    "convert": "converting",
    "refit": "healing: least squares",
    "heal": "healing: gradient steps",
    "measure": "measuring",
}


@dataclass(frozen=True)
class Healing:
    """The limits of training a converted model."""

    heal_minutes: Annotated[
        float | None,
        typer.Option("--heal-minutes", help="Time for healing; 3 unless --heal-tokens is given."),
    ] = None
    heal_tokens: Annotated[
        int | None, typer.Option("--heal-tokens", help="Tokens of gradient steps; 0 leaves healing out.")
    ] = None

    def __post_init__(self) -> None:
        minutes, tokens, useless = self.heal_minutes, self.heal_tokens, "beside {} 0: leave one out"
        refuse_unused("--heal-minutes", bool(minutes) and tokens == 0, useless.format("--heal-tokens"))
        refuse_unused("--heal-tokens", bool(tokens) and minutes == 0, useless.format("--heal-minutes"))

    @property
    def minutes(self) -> float | None:
        """The limit in minutes; 3 if there is no limit at all."""
        return 3.0 if self.heal_minutes is None and self.heal_tokens is None else self.heal_minutes


@dataclass(frozen=True)
class Mixture:
    """The mixture that a conversion makes: experts, active share, layers and seed."""

    experts: Annotated[int | None, typer.Option("--experts", help="In each converted layer.")] = None
    active: Annotated[
        str | None,
        typer.Option(
            "--active", metavar="SHARE", help="Neurons that a token takes: 50% for read-me and cluster."
        ),
    ] = None
    layers: Annotated[
        str | None,
        typer.Option("--layers", metavar="LIST", help="The layers to convert, such as 24-29 or 3,5,7."),
    ] = None
    seed: Annotated[int, typer.Option("--seed", help="Seed of all random numbers.")] = 0

    def __post_init__(self) -> None:
        self.parsed()  # raises before anything is loaded

    def parsed(self) -> tuple[int | None, float | None, tuple[int, ...] | None, int]:
        """The parameters of `ConvertOptions`."""
        share = None if self.active is None else parse_share(self.active, "--active")
        layers = None if self.layers is None else parse_layers(self.layers)
        return self.experts, share, layers, self.seed


@shared.grouped
def convert(
    model: shared.ModelName,
    method: Annotated[
        Literal["read-me", "cluster", "upcycle", "ternary"],
        typer.Option("--method", help="The method that turns layers into experts."),
    ],
    output: Annotated[
        str,
        typer.Option("-o", "--output", metavar="FOLDER", help="The folder to write, which must not exist."),
    ],
    *,
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text",
            metavar="FILE",
            help="Its first half is calibrated and healed on, its second measured; may be repeated, each "
            "then a domain. Left out, the model writes its own.",
        ),
    ] = None,
    healing: Healing,
    mixture: Mixture,
    threads: shared.Threads = None,
    json: shared.Json = False,
) -> int:
    """Convert MODEL to a mixture of experts, heal it, and say what that costs and saves.

    Ctrl-C while healing ends it and keeps what is healed so far; before that, nothing is written (exit code
    130 both times).
    """
    texts = [(name, read_text(name)) for name in text or ()]
    from shortlist import checkpoints

    path = checkpoints.resolve(model)
    require("torch", "conversion")
    from shortlist.torch.convert import METHODS, ConvertOptions
    from shortlist.torch.convert.heal import Budget
    from shortlist.torch.convert.pipeline import convert_checkpoint

    how, options = METHODS[method](), ConvertOptions(*mixture.parsed())
    budget = Budget(healing.minutes, healing.heal_tokens)
    folder = Path(output)
    try:
        with stage_bars(STAGES) as report:
            result = convert_checkpoint(
                path, how, folder, texts=texts, options=options, budget=budget, threads=threads, report=report
            )
    except KeyboardInterrupt:
        written = f"{output} is written, but not measured" if folder.exists() else "nothing was written"
        print(f"shortlist: interrupted: {written}", file=sys.stderr)
        raise
    if json:
        print_json({"folder": output, "method": method, **result.to_json()})
    else:
        _print(result, output)
    return 130 if result.interrupted else 0


def parse_layers(value: str) -> tuple[int, ...]:
    """Parse a list of layers: `3,5,24-26` is (3, 5, 24, 25, 26).

    Raises
    ------
    UsageError
        The value is no such list.
    """
    found: list[int] = []
    try:
        for part in value.split(","):
            first, dash, last = part.partition("-")
            layers = range(int(first), int(last if dash else first) + 1)
            found += layers[: MOST_LAYERS + 1]
    except ValueError:
        found = []
    if not found or len(found) > MOST_LAYERS:
        raise UsageError(f"--layers {value} is not a list of layers: write it like 24-29 or 3,5,7")
    return tuple(found)


def _print(result: "Conversion", output: str) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    # Headings of two lines, so that a row fits on one.
    for column in ("perplexity", "active\nFFN", "active\nparameters", "read per\ntoken", "native\ntokens/s"):
        table.add_column(column, justify="right")
    for stage in result.stages:
        table.add_row(*_cells(stage))
    out = console()
    print_table(out, table)
    for name, value in result.notes.items():
        out.print(f"{name}: {value:.1%}")
    out.print(f"healed on {result.healed.tokens} tokens in {result.healed.seconds:.0f} s of steps")
    if result.native_note:
        out.print(f"the native runtime cannot read it: {result.native_note}", soft_wrap=True)
    out.print(f"written to {output}", soft_wrap=True)


def _cells(stage: "Stage") -> list[str]:
    measured = stage.measured
    return [
        stage.name,
        f"{measured.perplexity:.3f}",
        f"{measured.active_ffn:.1%}",
        f"{measured.active_parameters / 1e6:.1f} M",
        megabytes(measured.bytes_per_token),
        "-" if stage.native is None else f"{stage.native:.1f}",
    ]
