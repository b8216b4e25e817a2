"""Nexus's scheduler (s1-39): steps shared by a cost model, against first come, first served.

Four texts are written while sixteen prompts come, often enough that the waits they cause are more than one in
twenty of the times between tokens, once with prompts read whole as they come and once in chunks
that the cost model fits into the time between tokens; both in turn, on one model that is loaded once. Prints
the target and what was measured, and exits with 1 where it is missed.

    .venv/bin/python lab/systems/s1_39_nexus.py [--model smollm2-135m] [--rounds 3]
"""

import argparse
import math
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import shortlist
from shortlist.engine.batch import BatchEngine
from shortlist.engine.events import Event, TokenEvent
from shortlist.engine.model import Model
from shortlist.engine.options import GenerationOptions

TEXT = Path(__file__).parents[2] / "benchmarks" / "data" / "shakespeare.txt"
WRITERS, ANSWER = 4, 200
READERS, LONG, EVERY = 16, 300, 0.25  # prompts, their tokens, and the seconds between them
GAP, LOSS = 0.7, 0.05  # targets


@dataclass
class Round:
    """What one run of the load gave."""

    gap: float  # seconds between tokens of the texts, 95th percentile
    first: float  # seconds to the first token of the long prompts, median
    throughput: float  # tokens of prompts and answers per second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    ways = {"first come, first served": math.inf, "cost model": 0.05}
    rounds: dict[str, list[Round]] = {name: [] for name in ways}
    with shortlist.load(arguments.model, threads=arguments.threads, context=2048) as model:
        tokens = model.tokenizer.encode(arguments.text.read_text(encoding="utf-8"), add_special=False)
        load(model, tokens, 0.05)  # warm
        for i in range(arguments.rounds):
            for name, seconds in ways.items():
                start = (2 * i + 1) * 7919 % (len(tokens) // 2)
                rounds[name].append(load(model, tokens[start:], seconds))
    fifo, shared = (
        Round(
            *(median(getattr(each, key) for each in rounds[name]) for key in ("gap", "first", "throughput"))
        )
        for name in ways
    )
    for name, each in zip(ways, (fifo, shared), strict=True):
        print(
            f"{name}: p95 between tokens {1e3 * each.gap:.0f} ms, first token of long prompts "
            f"{1e3 * each.first:.0f} ms, {each.throughput:.0f} tokens/s in all"
        )
    gap, loss = shared.gap / fifo.gap, 1 - shared.throughput / fifo.throughput
    print(f"p95 between tokens over first come's: {gap:.2f} (target {GAP} at most)")
    print(f"throughput lost: {100 * loss:.1f} % (target {100 * LOSS:.0f} % at most)")
    sys.exit(not (gap <= GAP and loss <= LOSS))


def load(model: Model, tokens: list[int], token_seconds: float) -> Round:
    """Run the load once."""
    engine = BatchEngine(model, slots=2 * WRITERS, token_seconds=token_seconds)
    ended = threading.Semaphore(0)
    times: dict[int, list[float]] = {}
    sent: dict[int, float] = {}
    at = 0

    def submit(number: int, prompt: int, answer: int) -> None:
        nonlocal at
        times[number], sent[number] = [], time.perf_counter()

        def receive(event: Event) -> None:
            if isinstance(event, TokenEvent):
                times[number].append(time.perf_counter())
            else:
                ended.release()

        engine.submit(tokens[at : at + prompt], GenerationOptions(max_tokens=answer), receive)
        at += prompt

    for number in range(WRITERS):
        submit(number, 48, ANSWER)
    for number in range(WRITERS, WRITERS + READERS):
        time.sleep(EVERY)
        submit(number, LONG, 2)
    for _ in times:
        ended.acquire()
    engine.close()
    begin, end = min(sent.values()), max(each[-1] for each in times.values())
    gaps = sorted(
        later - earlier
        for number in range(WRITERS)
        for earlier, later in zip(times[number], times[number][1:], strict=False)
    )
    computed = at + sum(len(each) for each in times.values())
    first = median(times[number][0] - sent[number] for number in range(WRITERS, WRITERS + READERS))
    return Round(gaps[int(0.95 * len(gaps))], first, computed / (end - begin))


if __name__ == "__main__":
    main()
