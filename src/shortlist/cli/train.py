"""`shortlist train`: a small decoder, dense or with experts, on text files."""

import math
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shortlist.cli import options as shared
from shortlist.cli.extras import require
from shortlist.cli.output import print_json
from shortlist.errors import UsageError

if TYPE_CHECKING:
    from shortlist.torch.train.result import Run

BARS = "▁▂▃▄▅▆▇█"
MOST_BARS = 40


def train(
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG", help="A TOML file to begin a run, or the folder of one to continue."
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FOLDER",
            help="Folder of the run; by default CONFIG without its ending.",
        ),
    ] = None,
    plots: Annotated[
        bool, typer.Option("--plots", help="Only draw the plots of a run anew, as its last checkpoint is.")
    ] = False,
    json: shared.Json = False,
) -> int:
    """Train a small decoder as CONFIG says: its folder holds metrics, checkpoints, plots and the model.

    Ctrl-C and SIGTERM stop after the current step and keep a checkpoint (exit codes 130 and 143).
    """
    from shortlist.torch.train import read_config

    begins = not Path(config).is_dir()
    if begins and plots:
        raise UsageError(f"--plots draws those of a run: name its folder instead of {config}")
    if not begins and output is not None:
        raise UsageError(f"{config} is a run, which continues in its own folder: leave out -o")
    settings = read_config(config) if begins else None  # first, because PyTorch takes seconds to start
    require("torch", "training")
    from shortlist.torch import train as training

    if plots:
        drawn = [str(path) for path in training.draw_plots(training.load_run(config))]
        if json:
            print_json({"plots": drawn})
        else:
            print("\n".join(drawn))
        return 0
    with _progress() as report:
        if settings is None:
            run = training.resume(config, report=report)
        else:
            run = training.train(settings, output or Path(config).with_suffix(""), report=report)
    if json:
        print_json(_summary(run))
    elif run.finished:
        _print(run)
    if not run.finished:
        step, steps = run.step, run.config.training.steps
        print(
            f"stopped after step {step} of {steps}: continue with shortlist train {run.folder}",
            file=sys.stderr,
        )
    return 0 if run.finished else 128 + (run.stopped_by or signal.SIGINT)  # as shells report it


def _summary(run: "Run") -> dict[str, Any]:
    return {
        "folder": str(run.folder),
        "step": run.step,
        "finished": run.finished,
        "validation_loss": run.validation_loss,
        "note": run.note,
    }


def _print(run: "Run") -> None:
    loss = run.validation_loss
    if loss is not None:
        print(f"validation loss {loss:.4f}, perplexity {math.exp(loss):.2f}, after {run.step} steps")
    print(f"metrics, plots and the model are in {run.folder}")
    if run.note:
        print(run.note)
    if (run.folder / "config.json").exists():
        print(f'use it with shortlist run {run.folder} "Once upon a time"')


@contextmanager
def _progress() -> Iterator[Callable[[dict[str, Any]], None]]:
    """A bar with the latest measurements on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("getting ready", total=None)
        validation = ""

        def report(line: dict[str, Any]) -> None:
            nonlocal validation
            if "validation_loss" in line:
                validation = f" (validation {line['validation_loss']:.3f})"
            parts = [f"loss {line['loss']:.3f}{validation}", f"{line['tokens_per_s']:.0f} tokens/s"]
            if line["experts"]:
                parts.append(f"load {describe_load(line['experts'])}")
            description = "  ".join(parts)
            bar.update(task, completed=line["step"], total=line["steps"], description=description)

        yield report


def describe_load(layers: list[dict[str, Any]]) -> str:
    """The load of each expert as a bar, a group for each layer; an even load is of half height.

    Where that would not fit into a line, the largest load, in units of an even one.
    """
    loads = [[share * len(layer["load"]) for share in layer["load"]] for layer in layers]
    if sum(map(len, loads)) > MOST_BARS:
        return f"up to {max(map(max, loads)):.1f} times even"
    top = len(BARS) - 1
    return " ".join("".join(BARS[min(round(load * len(BARS) / 2), top)] for load in layer) for layer in loads)
