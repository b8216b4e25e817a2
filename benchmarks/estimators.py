"""Every estimator on the heads and a feed-forward layer of real models: recall against bytes.

For each estimator and budget: the bytes it reads per query as a share of the table's, the share of the truly
best units among the best 1 % (head) or 20 % (feed-forward) by estimate, and the seconds of the fit. The exact
estimator is the oracle and the random one the floor. Queries are hidden states of the model over a text,
fitted on its first half and tested on its second. `bit_planes`, whose scores are those of 4 bits, is slow in
readable code and left out. The first table times the selectors on 262,144 scores.

    .venv/bin/python benchmarks/estimators.py [--text FILE] [--models smollm2-135m gemma-3-270m]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "lab" / "systems"))

from real_tables import TEXT, open_model

from shortlist.estimators import Scores
from shortlist.measure.recall import FFN_KEPT, HEAD_KEPT, Recall, ffn_recalls, head_recalls
from shortlist.measure.tables import Ffn, Head
from shortlist.selectors import (
    Certified,
    Confidence,
    GroupedTopK,
    Margin,
    ScoreMass,
    Selector,
    StatisticalTopK,
    Threshold,
    TopK,
    TwoStageTopK,
)

SCORES = 262_144


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--models", nargs="+", default=["smollm2-135m", "gemma-3-270m"])
    parser.add_argument("--fit", type=int, default=2048, help="positions to fit to")
    parser.add_argument("--test", type=int, default=128, help="positions to test on")
    parser.add_argument("--layer", type=int, help="of the feed-forward table; default is the middle one")
    arguments = parser.parse_args()
    print_selectors()
    for name in arguments.models:
        with open_model(name, arguments.text, arguments.fit, arguments.test) as model:
            print_ffn(name, model.ffn(model.layers // 2 if arguments.layer is None else arguments.layer))
            print_head(name, model.head())


def print_head(name: str, head: Head) -> None:
    units, width = head.rows.rows, head.rows.cols
    print(f"\n{name}, head {units} x {width}, {len(head.test)} positions, best {HEAD_KEPT:.0%} by estimate\n")
    print("| estimator | bytes | top-1 | top-32 | fit s |\n| --- | ---: | ---: | ---: | ---: |", flush=True)
    for recall in head_recalls(head):
        print_row(recall)


def print_ffn(name: str, ffn: Ffn) -> None:
    units, width = ffn.gate.shape
    print(f"\n{name}, FFN of layer {ffn.layer}, {units} neurons x {width}, {len(ffn.test)} positions")
    print(f"best {FFN_KEPT:.0%} by estimated |activation| x row norm; gate and up are estimated\n")
    print("| estimator | bytes | top 10 % | fit s |\n| --- | ---: | ---: | ---: |", flush=True)
    for recall in ffn_recalls(ffn):
        print_row(recall)


def print_row(recall: Recall) -> None:
    found = " | ".join(f"{share:.3f}" for share in recall.found.values())
    print(f"| {recall.label} | {recall.bytes_share:.1%} | {found} | {recall.fit_seconds:.1f} |", flush=True)


def print_selectors() -> None:
    """Time of each selection alone, with exact values that cost nothing."""
    rng = np.random.default_rng(0)
    scores = rng.standard_normal(SCORES, dtype=np.float32)
    spread = np.full(SCORES, 0.1, np.float32)
    estimate = Scores(scores, spread)
    selectors: list[Selector] = [
        TopK(1, 1024),
        GroupedTopK(1, 1024, group=8),
        GroupedTopK(1, 1024, group=16),
        TwoStageTopK(1, 1024),
        Threshold.calibrated(scores[None], 1024 / SCORES),
        StatisticalTopK(1024 / SCORES),
        ScoreMass(0.5, scores="logits"),
        Margin(1024),
        Confidence(6.0),
        Certified(),
    ]
    print(f"selection from {SCORES} normal scores, NumPy, best of 9\n")
    print("| selector | ms | units read |\n| --- | ---: | ---: |")
    for selector in selectors:
        seconds, read = [], 0
        for _ in range(9):
            start = time.perf_counter()
            read = selector.select(estimate, lambda indices: scores[indices]).rows_read
            seconds.append(time.perf_counter() - start)
        print(f"| {selector} | {1000 * min(seconds):.2f} | {read} |", flush=True)


if __name__ == "__main__":
    main()
