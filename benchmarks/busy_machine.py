"""Decode beside busy processes: what an engine keeps of its share of the cores.

    python benchmarks/busy_machine.py smollm2-135m --threads 2

Busy processes count, each on one thread. Where cores are shared fairly, T threads beside B of them get
T / (T + B) of the cores, at most one core for each thread: the fair share of the speed alone. One table:
tokens/s of every engine with each number of busy processes, that share of its own speed alone, and the ratio
of the two. llama.cpp is measured where `llama-cpp-python` is installed (the extra `bench`). Engines and loads
take turns, and medians of the rounds are shown.
"""

import argparse
import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from statistics import median

from shortlist.checkpoints import resolve
from shortlist.model.decoder import thread_count
from shortlist.peers.base import PeerError
from shortlist.peers.bench import OWN, prompt_tokens
from shortlist.peers.bench_worker import Worker

SPIN = "while True: pass"
SETTLE_SECONDS = 0.5  # until the scheduler has spread the busy processes


@contextmanager
def busy(count: int):
    """So many processes that only count, until the block ends."""
    processes = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(count)]
    try:
        time.sleep(SETTLE_SECONDS)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def fair_share(threads: int, busy_processes: int, cores: int) -> float:
    """The share of the speed alone that fair turns on the cores leave."""
    alone = min(threads, cores)
    return min(threads, cores * threads / (threads + busy_processes)) / alone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", nargs="?", default="smollm2-135m")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--head", default="dense", choices=["dense", "exact", "estimated"])
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", nargs="*", default=["llama.cpp"])
    arguments = parser.parse_args()
    loads = sorted({0, *arguments.busy})
    path, threads = resolve(arguments.model), thread_count(arguments.threads)
    cores = len(os.sched_getaffinity(0))
    prompt = prompt_tokens(path)
    speeds: dict[tuple[str, int], list[float]] = {}
    with ExitStack() as stack:
        workers = {}
        for engine in (OWN, *arguments.peers):
            try:
                head = arguments.head if engine == OWN else "dense"
                worker = stack.enter_context(Worker(engine, head, path, threads))
                worker.decode(prompt, 16)  # the first time is slower
                workers[engine] = worker
            except PeerError as error:
                print(f"{engine} is left out: {error}", file=sys.stderr)
        for _ in range(arguments.rounds):
            for count in loads:
                for engine, worker in workers.items():
                    with busy(count):
                        seconds = worker.decode(prompt, arguments.tokens)["seconds"]
                    speeds.setdefault((engine, count), []).append(arguments.tokens / seconds)
    print(f"{threads} threads on {cores} cores, {arguments.tokens} tokens, {arguments.rounds} rounds\n")
    print("| engine | busy processes | tokens/s | fair share, tokens/s | ratio |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for engine in workers:
        alone = median(speeds[engine, 0])
        for count in loads:
            speed = median(speeds[engine, count])
            fair = alone * fair_share(threads, count, cores)
            print(f"| {engine} | {count} | {speed:.1f} | {fair:.1f} | {speed / fair:.2f} |")


if __name__ == "__main__":
    main()
