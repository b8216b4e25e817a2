"""Prints results: JSON for programs, short tables for people."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from shortlist.cli.tables import console, print_table

if TYPE_CHECKING:
    from shortlist.engine.stats import RunStats


def print_json(value: Any) -> None:
    """Print one JSON document on one line of standard output."""
    print(json.dumps(value), flush=True)


def megabytes(count: float) -> str:
    """Format bytes for people, in decimal units."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[float], None]]:
    """A bar on standard error, where that is a terminal; yields a function that takes the share done."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(what, total=1.0)
        yield lambda share: progress.update(task, completed=share)


@contextmanager
def stage_bars(names: Mapping[str, str]) -> Iterator[Callable[[str, float], None]]:
    """A bar for each stage, by its name, on standard error, with the time left, where that is a terminal.

    Yields a function that takes a stage and its share done; a smaller share begins the stage again.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}
        done: dict[str, float] = {}

        def report(stage: str, share: float) -> None:
            if share < done.get(stage, 0.0):  # the stage begins again
                bars.reset(tasks[stage])
            if stage not in tasks:
                for task in tasks.values():
                    bars.update(task, visible=False)
                tasks[stage] = bars.add_task(names[stage], total=1.0)
            done[stage] = share
            bars.update(tasks[stage], completed=share, visible=True)

        yield report


def print_stats(stats: "RunStats", notes: Sequence[str] = ()) -> None:
    """Print the cost of a generation and notes on standard error; standard output holds only the text."""
    from rich.table import Table

    from shortlist.memory import peak_rss_bytes

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in (
        ("head", f"{stats.head}, {_optional(stats.head_rows_share, '{:.2%}')} of its rows read"),
        ("", f"{stats.full_draws} of {stats.draws} tokens had to read all rows" if stats.full_draws else ""),
        ("prompt", f"{stats.prompt_tokens} tokens, {stats.reused_tokens} of them in the cache already"),
        ("prefill", f"{_optional(stats.prefill_tokens_per_s, '{:.1f}')} tokens/s"),
        ("decode", f"{_optional(stats.decode_tokens_per_s, '{:.1f}')} tokens/s, {stats.draws} tokens"),
        ("experts", _experts(stats)),
        ("read per token", "-" if stats.bytes_per_token is None else megabytes(stats.bytes_per_token)),
        ("peak memory", megabytes(peak_rss_bytes())),
    ):
        if value:
            table.add_row(name, value)
    out = console(sys.stderr)
    print_table(out, table)
    for note in notes:
        out.print(note, soft_wrap=True)


def _experts(stats: "RunStats") -> str:
    experts = stats.experts
    if experts is None:
        return ""
    return (
        f"{experts['per_token']:.2f} of {experts['experts']} per token in {experts['mixtures']} layers, "
        f"the busiest with {experts['busiest']:.1f} times the mean load"
    )


def _optional(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
