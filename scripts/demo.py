"""What `make demo` shows: a small model, a text as it streams, and what its shortlists save and cost."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import shortlist
from shortlist.cli.output import stage_bars
from shortlist.cli.stages import FIT_STAGES
from shortlist.engine.model import Model
from shortlist.fit import fit
from shortlist.measure.quality import Quality, compare
from shortlist.measure.teacher_forced import windows
from shortlist.peers.bench import BenchOptions, measure
from shortlist.sites.head import Head

MODEL = "smollm2-135m"
REQUEST = "Why does the sea look blue? Answer in a few sentences."
TEXT = Path(__file__).parent.parent / "benchmarks" / "data" / "shakespeare.txt"
QUALITY_TOKENS = 512
BENCH = BenchOptions(decode_tokens=64, repetitions=3)
COLUMNS = ("dense", "estimated", "exact")


def main() -> None:
    console = Console()
    console.print(f"Fetching {MODEL} (93 MB, the first time only)", highlight=False)
    path = shortlist.pull(MODEL, progress=True)
    console.print("Fitting the estimate of its head (the first time only)")
    with stage_bars(FIT_STAGES) as report:
        fit(MODEL, again=False, report=report)
    qualities = {}
    with shortlist.load(MODEL, head="estimated") as model:
        write(console, model)
        console.print("Measuring quality: every token of a text, shortlisted against dense")
        qualities["estimated"] = quality(model)
    with shortlist.load(MODEL, head="exact") as model:
        qualities["exact"] = quality(model)
    console.print("Measuring speed: the heads take turns")
    console.print(table(measure(path, BENCH), qualities))


def write(console: Console, model: Model) -> None:
    """Stream an answer."""
    console.print(f"\n[bold]{REQUEST}[/bold]")
    prompt = model.tokenizer.encode_chat([{"role": "user", "content": REQUEST}])
    for piece in model.stream(prompt, max_tokens=120):
        print(piece, end="", flush=True)
    print("\n")


def quality(model: Model) -> Quality:
    """The model's head against the dense one, over the beginning of a play."""
    tokens = model.tokenizer.encode(TEXT.read_text(encoding="utf-8"), add_special=False)[:QUALITY_TOKENS]
    batches = windows(model.decoder, tokens, model.tokenizer.encode(""))
    return compare(batches, Head(model.decoder.head_rows), model.head, model.decoder.layer_bytes)


def table(report: dict[str, Any], qualities: dict[str, Quality]) -> Table:
    """One column per head, one row per figure."""
    machine = report["machine"]
    runs = {run["head"]: run for run in report["runs"]}
    result = Table(
        title=f"{MODEL}, {machine['threads']} threads, {machine['isa']}; "
        f"this machine reads {machine['read_gb_s']:.1f} GB/s"
    )
    result.add_column()
    for name in COLUMNS:
        result.add_column(name, justify="right")

    def add(heading: str, form: str, dense: float, shortlisted: list[float]) -> None:
        result.add_row(heading, *(form.format(value) for value in (dense, *shortlisted)))

    def from_runs(key: str, scale: float = 1.0) -> tuple[float, list[float]]:
        dense, *others = (runs[head][key] / scale for head in COLUMNS)
        return dense, others

    costs = [qualities[head].shortlisted for head in COLUMNS if head != "dense"]
    dense = qualities["exact"].dense
    add("decode, tokens/s", "{:.0f}", *from_runs("decode_tokens_per_s"))
    add("read per token, MB", "{:.1f}", *from_runs("bytes_per_token", 1e6))
    add("share of the read bandwidth", "{:.0%}", *from_runs("bandwidth_share"))
    add("head rows read exactly", "{:.2%}", 1.0, [cost.rows_share for cost in costs])
    add("same greedy token as dense", "{:.2%}", 1.0, [cost.agreement for cost in costs])
    add("perplexity", "{:.3f}", dense.perplexity, [cost.perplexity for cost in costs])
    return result


if __name__ == "__main__":
    main()
