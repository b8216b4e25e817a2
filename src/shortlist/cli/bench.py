"""`shortlist bench`: shortlist against other engines, in turns, next to what the machine can read."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shortlist.cli import options as shared
from shortlist.cli.fit import fitted
from shortlist.cli.output import megabytes, print_json
from shortlist.cli.tables import console, print_table
from shortlist.errors import ShortlistError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

OWN = "shortlist"


def bench(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="As for the other commands; or give --synthetic instead."),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            "--peer",
            help="Measure this engine too: llama.cpp, ik_llama.cpp, transformers, onnxruntime-genai, "
            "ctranslate2; may be repeated.",
        ),
    ] = None,
    synthetic: Annotated[
        str | None,
        typer.Option(
            "--synthetic",
            help="A model of random weights: llama-1b-q4_0, llama-1b-q8_0, or llama-1b-relu-8 (-16, "
            "-32, -64: per cent of neurons that fire), or olmoe-q4_0 (64 experts, 4 GB); dense head only.",
        ),
    ] = None,
    tokens: Annotated[int, typer.Option("-n", "--tokens", help="Tokens to write in each repetition.")] = 128,
    repetitions: Annotated[int, typer.Option("--repetitions", help="Rounds; medians are reported.")] = 5,
    fit: Annotated[
        bool, typer.Option("--fit", help="First fit the estimated head, where that was not done yet.")
    ] = False,
    ffn: shared.Ffn = "auto",
    recipe: shared.Recipe = None,
    threads: shared.Threads = None,
    json: shared.Json = False,
) -> None:
    """Measure decode and prefill speed, bytes per token and peak memory, each engine in its own process."""
    if (model is None) == (synthetic is None):
        raise UsageError("name a model, or a random one with --synthetic llama-1b-q4_0, and not both")
    if fit and synthetic is not None:
        raise UsageError("--fit is for a real model: a head of random rows has no rows that stand out")
    from shortlist.checkpoints import resolve
    from shortlist.measure.synthetic import synthetic as write_synthetic
    from shortlist.peers.bench import HEADS, BenchOptions, measure

    options = BenchOptions(
        threads=threads,
        peers=tuple(dict.fromkeys(peer or ())),
        heads=HEADS if synthetic is None else ("dense",),  # random rows: no winner stands out
        decode_tokens=tokens,
        repetitions=repetitions,
        ffn=ffn,
        recipe=recipe,
    )
    path = write_synthetic(synthetic) if synthetic is not None else resolve(str(model))
    if fit:
        fitted(str(model), threads)
    report = measure(path, options, progress=_say)
    _say("")
    if json:
        print_json(report)
    else:
        print_report(report, title=str(model or synthetic))
    if all("error" in run for run in report["runs"]):
        raise ShortlistError("no engine ran: " + report["runs"][0]["error"])


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def print_report(report: dict[str, Any], title: str) -> None:
    """The report as a table, and under it the peers' settings, the runs that failed and the ratios."""
    out = console()
    print_table(out, table(report, title))
    for run in report["runs"]:
        if "error" in run:
            out.print(f"{_called(run)} did not run: {run['error']}", soft_wrap=True)
        elif run["settings"] and run["engine"] != OWN:
            out.print(f"{run['engine']} at its best: {run['settings']}", soft_wrap=True)
    for name, ratio in report["ratios"].items():
        out.print(sentence(name, ratio), soft_wrap=True)


def sentence(name: str, ratio: float) -> str:
    """A ratio in words: `shortlist_exact/llama.cpp` is one of decode speeds, with ` prefill` of prefill."""
    from shortlist.peers.bench import NAMES

    engines, _, prefill = name.partition(" ")
    words = {called: f"shortlist, {head}," for head, called in NAMES.items()}
    first, second = (words.get(engine, engine) for engine in engines.split("/"))
    does = "reads a prompt" if prefill else "writes"
    return f"{first} {does} {ratio:.2f} times as fast as {second.rstrip(',')}"


def _called(run: dict[str, Any]) -> str:
    return f"{OWN}, {run['head']}" if run["engine"] == OWN else run["engine"]


def table(report: dict[str, Any], title: str) -> "Table":
    """A table with a row per successful run; speeds in GB/s beside the machine's read bandwidth."""
    from rich.table import Table

    machine = report["machine"]
    result = Table(
        title=f"{title}, {machine['threads']} threads, {machine['isa']}: "
        f"this machine reads {machine['read_gb_s']:.1f} GB/s"
    )
    result.add_column("engine")
    for heading in ("decode\ntokens/s", "prefill\ntokens/s", "read per\ntoken", "GB/s", "of the\nmachine's"):
        result.add_column(heading, justify="right")
    result.add_column("peak\nmemory", justify="right")
    for run in report["runs"]:
        if "error" in run:
            continue
        result.add_row(
            _called(run),
            f"{run['decode_tokens_per_s']:.1f}",
            f"{run['prefill_tokens_per_s']:.0f}",
            megabytes(run["bytes_per_token"]),
            f"{run['bytes_per_token'] * run['decode_tokens_per_s'] / 1e9:.1f}",
            f"{run['bandwidth_share']:.0%}",
            megabytes(run["peak_rss_mb"] * 1e6),
        )
    return result
