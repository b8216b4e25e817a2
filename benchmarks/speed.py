"""Speed claims: shortlist against llama.cpp and ik_llama.cpp on four models, beside what is aimed for.

Takes about ten minutes on 2 cores, which should have nothing else to do. Prints Markdown for the
documentation and exits with 1 where a ratio or share falls short.

    make .venv/bench.stamp && .venv/bin/python benchmarks/speed.py [MODEL ...] [--threads N]
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from shortlist.checkpoints import pull
from shortlist.fit import fit
from shortlist.measure.synthetic import SHAPES, synthetic
from shortlist.peers.bench import HEADS, BenchOptions, measure

PEERS = ("llama.cpp", "ik_llama.cpp")
DENSE, SHARE = "shortlist_dense/llama.cpp", "dense share of the read bandwidth"
PREFILL = f"{DENSE} prefill"
LEAST = {
    "smollm2-135m": {DENSE: 2.2, "shortlist/llama.cpp": 3.0, PREFILL: 1.5},
    "gemma-3-270m": {
        DENSE: 1.5,
        "shortlist/llama.cpp": 3.5,
        "shortlist_exact/shortlist_dense": 1.35,
        PREFILL: 1.5,
    },
    "llama-1b-q4_0": {DENSE: 1.7, SHARE: 0.75, PREFILL: 1.5},
    "llama-1b-q8_0": {DENSE: 1.7, SHARE: 0.75, PREFILL: 1.5},
}
RUNS = """
| {model} | decode, tokens/s | prefill, tokens/s | MB per token | of the read bandwidth | peak MB |
| --- | --- | --- | --- | --- | --- |"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(LEAST), default=list(LEAST))
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    short = False
    for model in arguments.models:
        report = measure(_path(model), _options(model, arguments.threads), progress=_say)
        _say("")
        print_runs(model, report)
        short |= not print_ratios(model, report)
    sys.exit(short)


def print_runs(model: str, report: dict[str, Any]) -> None:
    machine = report["machine"]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    print(
        f"\n{machine['threads']} threads, {machine['isa']}, {machine['read_gb_s']:.1f} GB/s, commit {commit}"
    )
    print(RUNS.format(model=model))
    for run in report["runs"]:
        if "error" in run:
            print(f"| {run['engine']} | {run['error']} |")
            continue
        name = f"shortlist, {run['head']}" if run["engine"] == "shortlist" else run["engine"]
        figures = (
            f"{run['decode_tokens_per_s']:.1f}",
            f"{run['prefill_tokens_per_s']:.0f}",
            f"{run['bytes_per_token'] / 1e6:.1f}",
            f"{run['bandwidth_share']:.0%}",
            f"{run['peak_rss_mb']:.0f}",
        )
        print(f"| {name} | {' | '.join(figures)} |")


def print_ratios(model: str, report: dict[str, Any]) -> bool:
    """Print what was reached beside what should be; True where all of it was."""
    dense = report["runs"][0]
    reached = report["ratios"] | {SHARE: dense.get("bandwidth_share", 0.0)}
    print(f"\n| {model} | reached | at least |\n| --- | --- | --- |")
    for name, value in reached.items():
        print(f"| {name} | {value:.2f} | {LEAST[model].get(name, '')} |")
    return all(reached.get(name, 0.0) >= least for name, least in LEAST[model].items())


def _path(model: str) -> Path:
    if model in SHAPES:
        return synthetic(model)
    path = pull(model, progress=True)
    fit(path, again=False)  # here: in the process that is measured it would count in the peak memory
    return path


def _options(model: str, threads: int | None) -> BenchOptions:
    return BenchOptions(threads=threads, peers=PEERS, heads=("dense",) if model in SHAPES else HEADS)


def _say(text: str) -> None:
    print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
