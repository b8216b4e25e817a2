"""What a step costs with more positions in it: the head of each model, and its layers, with 1, 2, 4 and 8.

    python benchmarks/positions.py smollm2-135m gemma-3-270m --text benchmarks/data/shakespeare.txt

Positions that are computed together (texts of a batch, drafts) share one read and one unpacking of the
weights. The target is that eight cost at most 2.2 times as much as one. The counts take turns, round after
round, and the fastest round of each counts, so that other programs on the machine disturb the ratios little.
The estimated head is measured where `shortlist fit` has made a recipe. `SHORTLIST_ISA=avx2` measures the
kernels of another processor.
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
    arguments = parser.parse_args()
    for name in arguments.models:
        for part, step, size in parts(name, arguments.text.read_text()[:4000]):
            seconds = fastest(step, arguments.rounds)
            print_line(f"{name} {part}", seconds, size)
    print(f"read bandwidth of the machine: {_native.read_bandwidth_gb_s():.1f} GB/s")


def parts(name: str, text: str) -> list[tuple[str, Callable[[int], object], int]]:
    """(what, step(positions), bytes that one position reads) of one model."""
    found = []
    for kind in ("dense", "exact", "estimated"):
        try:
            model = shortlist.load(name, head=kind, progress=False)
        except shortlist.UsageError as error:
            print(f"{name} {kind}: not measured, {error}")
            continue
        hidden = states(model, text)
        head = model.head
        read = head.argmax_together(hidden[:1])[0][1].bytes
        found.append(
            (
                f"{kind} head",
                lambda count, head=head, hidden=hidden: head.argmax_together(hidden[:count]),
                read,
            )
        )
        if kind == "dense":
            found.append(("layers", layers(model, text), model.decoder.layer_bytes))
    return found


def states(model: shortlist.Model, text: str) -> np.ndarray:
    """Hidden states of the end of a text, as different texts would have them: float32 [8, width]."""
    tokens = np.array(model.tokenizer.encode(text)[:256], np.int32)
    hidden = model.decoder.forward(tokens, model.decoder.new_cache(len(tokens)))
    return np.ascontiguousarray(hidden[len(hidden) // 8 - 1 :: len(hidden) // 8][: COUNTS[-1]])


def layers(model: shortlist.Model, text: str) -> Callable[[int], object]:
    """A step of the layers for so many texts, each with a cache of its own."""
    tokens = np.array(model.tokenizer.encode(text)[: COUNTS[-1]], np.int32)

    def step(count: int) -> object:
        caches = [model.decoder.new_cache(4) for _ in range(count)]
        started = time.perf_counter()
        model.decoder.forward_together([(tokens[i : i + 1], cache) for i, cache in enumerate(caches)])
        return time.perf_counter() - started

    return step


def fastest(step: Callable[[int], object], rounds: int) -> dict[int, float]:
    """Seconds of the fastest round with each number of positions; a step may time itself."""
    best = dict.fromkeys(COUNTS, float("inf"))
    for _ in range(rounds):
        for count in COUNTS:
            started = time.perf_counter()
            own = step(count)
            taken = own if isinstance(own, float) else time.perf_counter() - started
            best[count] = min(best[count], taken)
    return best


def print_line(what: str, seconds: dict[int, float], size: int) -> None:
    """Milliseconds and ratios, and whether the target is met."""
    one = seconds[1]
    ratios = ", ".join(
        f"{count}: {1e3 * seconds[count]:.2f} ms ({seconds[count] / one:.2f})" for count in COUNTS
    )
    verdict = "meets" if seconds[COUNTS[-1]] <= TARGET * one else "MISSES"
    print(f"{what}: {ratios}; {size / one / 1e9:.1f} GB/s for one; {verdict} {TARGET}", flush=True)


if __name__ == "__main__":
    main()
