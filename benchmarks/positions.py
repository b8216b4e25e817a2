"""What a step costs with more positions in it: the head of each model, and its layers, with 1, 2, 4 and 8.

    python benchmarks/positions.py smollm2-135m gemma-3-270m --text benchmarks/data/shakespeare.txt

Positions that are computed together (texts of a batch, drafts) share one read and one unpacking of the
weights. The target is that eight cost at most 2.2 times as much as one: as the mean of the eight alone, for
a shortlist is longer for one position than for another. The counts take turns, round after round, and the
fastest round of each counts, so that other programs on the machine disturb the ratios little. With `--cpu`
one thread works and its processor time counts, which another program disturbs less. The estimated head is
measured where `shortlist fit` has made a recipe. `SHORTLIST_ISA=avx2` measures the kernels of another
processor.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import shortlist
from shortlist import _native

COUNTS = (1, 2, 4, 8)
TARGET = 2.2


def main() -> None:
    """Print a line for each model and part, then the read bandwidth of the machine."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--cpu", action="store_true", help="processor time of one thread")
    arguments = parser.parse_args()
    for name in arguments.models:
        threads = 1 if arguments.cpu else None
        for part, step, size in parts(name, arguments.text.read_text()[:4000], threads):
            seconds = fastest(step, arguments.rounds, time.thread_time if threads else time.perf_counter)
            print_line(f"{name} {part}", seconds, size)
    print(f"read bandwidth of the machine: {_native.read_bandwidth_gb_s():.1f} GB/s")


Step = Callable[[slice], Callable[[], object]]
"""Prepares a step of some of the positions."""


def parts(name: str, text: str, threads: int | None) -> list[tuple[str, Step, int]]:
    """(what, step, bytes that one position reads) of one model."""
    found = []
    for kind in ("dense", "exact", "estimated"):
        try:
            model = shortlist.load(name, head=kind, progress=False, threads=threads)
        except (shortlist.UsageError, shortlist.RecipeError) as error:
            print(f"{name} {kind}: not measured, {error}")
            continue
        hidden = states(model, text)
        head = model.head
        read = sum(each.bytes for _, each in head.argmax_together(hidden)) // len(hidden)

        def step(some: slice, head=head, hidden=hidden) -> Callable[[], object]:
            return lambda: head.argmax_together(hidden[some])

        found.append((f"{kind} head", step, read))
        if kind == "dense":
            found.append(("layers", layers(model, text), model.decoder.layer_bytes))
    return found


def states(model: shortlist.Model, text: str) -> np.ndarray:
    """Hidden states of the end of a text, as different texts would have them: float32 [8, width]."""
    tokens = np.array(model.tokenizer.encode(text)[:256], np.int32)
    hidden = model.decoder.forward(tokens, model.decoder.new_cache(len(tokens)))
    return np.ascontiguousarray(hidden[len(hidden) // 8 - 1 :: len(hidden) // 8][: COUNTS[-1]])


def layers(model: shortlist.Model, text: str) -> Step:
    """A step of the layers for so many texts, each with a cache of its own."""
    tokens = np.array(model.tokenizer.encode(text)[: COUNTS[-1]], np.int32)

    def step(some: slice) -> Callable[[], object]:
        segments = [(token, model.decoder.new_cache(4)) for token in tokens[some].reshape(-1, 1)]
        return lambda: model.decoder.forward_together(segments)

    return step


def fastest(step: Step, rounds: int, clock: Callable[[], float]) -> dict[int, float]:
    """Seconds with each number of positions in the fastest rounds; with one the mean over the positions."""
    slices = [slice(i, i + 1) for i in range(COUNTS[-1])] + [slice(0, count) for count in COUNTS[1:]]
    best = [float("inf")] * len(slices)
    for _ in range(rounds):
        for i, some in enumerate(slices):
            run = step(some)
            started = clock()
            run()
            best[i] = min(best[i], clock() - started)
    alone = best[: COUNTS[-1]]
    return dict(zip(COUNTS, [sum(alone) / len(alone), *best[COUNTS[-1] :]], strict=True))


def print_line(what: str, seconds: dict[int, float], size: int) -> None:
    """Milliseconds and ratios, and whether the target is met."""
    one = seconds[1]
    ratios = [f"{count}: {1e3 * seconds[count]:.2f} ms ({seconds[count] / one:.2f})" for count in COUNTS]
    verdict = "meets" if seconds[COUNTS[-1]] <= TARGET * one else "MISSES"
    speed = f"{size / one / 1e9:.1f} GB/s for one"
    print(f"{what}: {', '.join(ratios)}; {speed}; {verdict} {TARGET}", flush=True)


if __name__ == "__main__":
    main()
