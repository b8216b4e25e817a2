"""Input channels: time and bytes of a product that reads some of them, and what skipping them costs a model.

Prints Markdown. `speed`: one token times random matrices of the shapes of SmolLM2-135M and of a 1B model, by
channel at several shares, over the dense product of tiled rows. Every variant takes its turn in each round on
as many copies as no cache holds; medians of the rounds. `quality`: perplexity with the same share read at
every input of every layer by TEAL, WINA, and R-Sparse (which spends a fifth of its bytes on the low rank).
Thresholds come from the first half of a text and are measured on its second half; the change is that of
paired tokens, with its standard error.

    python benchmarks/input_channels.py speed [--threads N] [--rounds N]
    python benchmarks/input_channels.py quality TEXT [--model MODEL] [--tokens N] [--methods teal wina]
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from shortlist import _native, checkpoints
from shortlist.checkpoints.base import TYPES, Checkpoint
from shortlist.estimators import Magnitude
from shortlist.measure.teacher_forced import WINDOW, windows
from shortlist.model.decoder import Decoder, thread_count
from shortlist.model.tokenizer.tokenizer import Tokenizer
from shortlist.selectors import Threshold
from shortlist.sites.base import MATRICES, Part, sites_of
from shortlist.sites.head import Head

SHAPES = {
    "SmolLM2 qkv": (960, 576),
    "SmolLM2 gate, up": (3072, 576),
    "SmolLM2 down": (576, 1536),
    "1B o": (2048, 2048),
    "1B gate, up": (16384, 2048),
    "1B down": (2048, 8192),
}
"""Outputs and inputs of what shares an input."""

KINDS = ("Q4_0", "Q8_0")
KEEPS = (1.0, 0.75, 0.5, 0.25)
COPIES_BYTES = 96 << 20  # more than the caches hold

QUALITY_KEEPS = (0.75, 0.5)
FIT_TOKENS = 1024
REST_SHARE = 0.2  # of the bytes that R-Sparse reads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(required=True)
    speed = commands.add_parser("speed")
    speed.add_argument("--threads", type=int)
    speed.add_argument("--rounds", type=int, default=9)
    speed.set_defaults(run=print_speed)
    quality = commands.add_parser("quality")
    quality.add_argument("text", type=Path)
    quality.add_argument("--model", default="smollm2-135m")
    quality.add_argument("--tokens", type=int, default=2000)
    quality.add_argument("--methods", nargs="+", default=["teal", "wina", "r-sparse"])
    quality.set_defaults(run=print_quality)
    arguments = parser.parse_args()
    arguments.run(arguments)


def print_speed(arguments: argparse.Namespace) -> None:
    """A row per shape and type: dense, then ratios to it."""
    _native.set_threads(thread_count(arguments.threads))
    print("| matrix | type | dense |", " | ".join(f"keep {keep}: speed, bytes" for keep in KEEPS), "|")
    print("|", " | ".join(["---"] * (3 + len(KEEPS))), "|")
    for name, (outputs, inputs) in SHAPES.items():
        for kind in KINDS:
            print(
                f"| {name}, {outputs} x {inputs} | {kind} |",
                time_shape(kind, outputs, inputs, arguments.rounds),
            )
    print(f"\n{_native.isa()}, {_native.threads()} threads, {_native.read_bandwidth_gb_s(256, 2):.1f} GB/s")


def time_shape(kind: str, outputs: int, inputs: int, rounds: int) -> str:
    """Cells: microseconds and GB/s of the dense product, then speed and bytes over dense for each share."""
    rng = np.random.default_rng(0)
    type_ = TYPES[kind]
    data = rng.integers(0, 256, (outputs * inputs // type_.weights, type_.bytes), dtype=np.uint8)
    data[:, :2] = np.array([0.01], np.float16).view(np.uint8)
    arena = _native.Arena()
    copies = -(-COPIES_BYTES // data.nbytes)
    tiled = [
        _native.Rows.pack(data.reshape(-1), kind, outputs, inputs, "", arena, True) for _ in range(copies)
    ]
    by_row = _native.Rows.pack(data.reshape(-1), kind, outputs, inputs)
    channels = [_native.Channels(by_row, arena) for _ in range(copies)]
    x = rng.normal(size=inputs).astype(np.float32)
    thresholds = {
        keep: Threshold.calibrated(np.abs(x), keep).threshold if keep < 1 else 0.0 for keep in KEEPS
    }
    seconds = {keep: [] for keep in (None, *KEEPS)}
    # One thread's own time leaves out what it waits for other programs.
    clock = time.thread_time if _native.threads() == 1 else time.perf_counter
    for _ in range(rounds):
        for keep, times in seconds.items():
            start = clock()
            for i in range(copies):
                if keep is None:
                    tiled[i].matvec(x)
                else:
                    channels[i].matvec(x, thresholds[keep])
            times.append((clock() - start) / copies)
    dense = statistics.median(seconds[None])
    cells = [f"{dense * 1e6:.0f} us, {by_row.nbytes / dense / 1e9:.1f} GB/s"]
    one = channels[0]
    scales = one.nbytes - inputs * one.channel_bytes
    for keep in KEEPS:
        share = (scales + round(keep * inputs) * one.channel_bytes) / by_row.nbytes
        cells.append(f"{dense / statistics.median(seconds[keep]):.2f}x, {share:.0%}")
    return " | ".join(cells) + " |"


def print_quality(arguments: argparse.Namespace) -> None:
    """A row per method and share."""
    with checkpoints.open_checkpoint(checkpoints.resolve(arguments.model)) as checkpoint:
        tokenizer = Tokenizer.from_checkpoint(checkpoint)
        text = arguments.text.read_text(encoding="utf-8")
        first = tokenizer.encode(text[: len(text) // 2], add_special=False)[:FIT_TOKENS]
        tokens = tokenizer.encode(text[len(text) // 2 :], add_special=False)[: arguments.tokens]
        prefix = tokenizer.encode("")
        plain = Decoder(checkpoint, parts=every_part(checkpoint, {}, 0.0, "teal"))
        pieces = [plain.all_inputs(np.array(first[i : i + WINDOW])) for i in range(0, len(first), WINDOW)]
        inputs = {place: np.concatenate([piece[place] for piece in pieces]) for place in pieces[0]}
        del pieces, plain
        dense = Decoder(checkpoint)
        expected, dense_bytes = losses(dense, tokens, prefix), dense.layer_bytes
        print("| method | keep | perplexity | change | channels read | bytes of the layers |")
        print("| --- | --- | --- | --- | --- | --- |")
        print(
            f"| dense | 1 | {np.exp(expected.mean()):.2f} | | 100% | {dense_bytes / 1e6:.1f} MB |", flush=True
        )
        for method in arguments.methods:
            for keep in QUALITY_KEEPS:
                parts = every_part(checkpoint, inputs, keep, method)
                decoder = Decoder(checkpoint, parts=parts)
                change = losses(decoder, tokens, prefix) - expected
                ratio, error = np.exp(change.mean()), change.std() / np.sqrt(len(change))
                cells = [method, str(keep), f"{np.exp(expected.mean()) * ratio:.2f}"]
                cells += [f"{ratio - 1:+.1%} ± {error:.1%}"]
                cells += [f"{decoder.layer_bytes / 1e6:.1f} MB, {decoder.layer_bytes / dense_bytes:.0%}"]
                print("|", " | ".join(cells), "|", flush=True)


def every_part(
    checkpoint: Checkpoint, inputs: dict[str, np.ndarray], keep: float, method: str
) -> dict[str, Part]:
    """The same share at every input of every layer; without inputs, everything."""
    parts = {}
    for site in (site for kind in MATRICES for site in sites_of(checkpoint, kind)):
        table, units, width = site.table(), site.units, site.width
        rest, share = 0, keep
        if method == "r-sparse":
            stored = sum(checkpoint.tensors[name].data.nbytes for name in site.tensors)
            rest = int(REST_SHARE * keep * stored / ((units + width) * 34 / 32))  # factors have 8 bits
            share = keep * (1 - REST_SHARE)
        estimator = Magnitude(weighted=method == "wina", rest=rest)
        queries = inputs.get(site.name, np.zeros((1, units), np.float32))
        state = estimator.fit(table, queries)
        scores = estimator.score(state, queries).values
        threshold = Threshold.calibrated(scores, share) if inputs else Threshold(0.0)
        parts[site.name] = site.part(estimator, threshold, state)
    return parts


def losses(decoder: Decoder, tokens: list[int], prefix: list[int]) -> np.ndarray:
    """Negative log probability of each token, in nats."""
    head = Head(decoder.head_rows)
    found = []
    for hidden, targets in windows(decoder, tokens, prefix):
        for state, target in zip(hidden, targets, strict=True):
            logits = head.logits(state)[0].astype(np.float64)
            top = logits.max()
            found.append(top + np.log(np.exp(logits - top).sum()) - logits[target])
    return np.array(found)


if __name__ == "__main__":
    main()
