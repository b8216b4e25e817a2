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
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from systems.real_tables import TEXT, Ffn, Head, best_units, head_values, open_model, recall_within

from shortlist.estimators import (
    Codebook,
    Estimate,
    Estimator,
    Exact,
    LowRank,
    LowRankSparse,
    Neighbour,
    Quantized,
    Random,
    SharedCodebook,
    Sketch,
    State,
)
from shortlist.estimators.mixed_width import learn_ranks
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

HEAD_KEPT, FFN_WANTED, FFN_KEPT = 0.01, 0.1, 0.2  # shares of the units
BATCH = 64  # queries that are scored at once
SCORES = 262_144


def estimators(spread: bool) -> Iterator[Estimator]:
    """The methods, each at a few budgets; mixed width is learned for each table and comes apart.

    Low rank gives the spread of each query where that is small beside the table.
    """
    yield Random()
    for rank in (32, 64, 128):
        yield LowRank(rank, spread_per_query=spread)
    for metric in ("leanvec", "pca", "identity"):
        yield LowRank(64, metric, spread)
    yield LowRankSparse(32, 8)
    for rank in (64, 256):
        yield Sketch(rank)
    yield Codebook(4)
    for rank in (64, 128):
        yield Codebook(2, rank)
    for part in (8, 4, 3):
        yield SharedCodebook(part)
    for bits in (1, 2, 3, 4):
        yield Quantized(bits)
    yield Quantized(3, "input")
    yield Quantized(3, code="shift")
    yield Neighbour()
    yield Exact()


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
    kept = round(HEAD_KEPT * units)
    exact = head_values(head, head.test)
    wanted = best_units(exact, 32)
    print(f"\n{name}, head {units} x {width}, {len(head.test)} positions, best {kept} rows by estimate\n")
    print("| estimator | bytes | top-1 | top-32 | fit s |\n| --- | ---: | ---: | ---: | ---: |", flush=True)
    start = time.perf_counter()
    learned = learn_ranks(head.rows, head.fit, 64)
    learning = time.perf_counter() - start
    for estimator in (*estimators(spread=True), learned):
        state, seconds = fitted(estimator, head.rows, head.fit)
        seconds += learning if estimator is learned else 0.0
        top_1, top_32 = [], []
        for queries, values, best in in_batches(head.test, exact, wanted):
            estimated = estimates(estimator, state, queries, values, kept)
            top_1.append(recall_within(estimated, best[:, :1], kept))
            top_32.append(recall_within(estimated, best, kept))
        share = estimator.bytes_per_query(units, width) / head.rows.nbytes
        recalls = f"{np.mean(top_1):.3f} | {np.mean(top_32):.3f}"
        print(f"| {label(estimator)} | {share:.1%} | {recalls} | {seconds:.1f} |", flush=True)


def print_ffn(name: str, ffn: Ffn) -> None:
    units, width = ffn.gate.shape
    table = np.concatenate([ffn.gate, ffn.up])
    exact = ffn.test @ table.T
    kept = round(FFN_KEPT * units)
    wanted = best_units(ffn.true_sizes(ffn.test), round(FFN_WANTED * units))
    print(f"\n{name}, FFN of layer {ffn.layer}, {units} neurons x {width}, {len(ffn.test)} positions")
    print(f"best {kept} neurons by estimated |activation| x row norm; gate and up are estimated\n")
    print("| estimator | bytes | top 10 % | fit s |\n| --- | ---: | ---: | ---: |", flush=True)
    for estimator in estimators(spread=False):
        state, seconds = fitted(estimator, table, ffn.fit)
        recalls = []
        for queries, values, best in in_batches(ffn.test, exact, wanted):
            gate, up = np.split(estimates(estimator, state, queries, values, 2 * kept), 2, axis=1)
            recalls.append(recall_within(ffn.sizes(gate, up), best, kept))
        share = estimator.bytes_per_query(2 * units, width) / ffn.nbytes
        print(f"| {label(estimator)} | {share:.1%} | {np.mean(recalls):.3f} | {seconds:.1f} |", flush=True)
    gate = exact[:, :units]
    alone = recall_within(ffn.sizes(gate, np.ones_like(gate)), wanted, kept)
    print(f"| magnitude of the gate, computed in full | 33.3% | {alone:.3f} | 0.0 |", flush=True)


def fitted(estimator: Estimator, table: Any, queries: np.ndarray) -> tuple[State, float]:
    """The state, and the seconds that it took."""
    start = time.perf_counter()
    state = estimator.fit(table, queries)
    return state, time.perf_counter() - start


def in_batches(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    for start in range(0, len(arrays[0]), BATCH):
        yield tuple(array[start : start + BATCH] for array in arrays)


def estimates(
    estimator: Estimator, state: State, queries: np.ndarray, exact: np.ndarray, kept: int
) -> np.ndarray:
    """Estimated values [queries, units]. A neighbour learns the exact ones of what each step keeps."""
    if not isinstance(estimator, Neighbour):
        return estimator.estimate(state, queries).values
    steps = []
    for query, values in zip(queries, exact, strict=True):
        guess = estimator.estimate(state, query).values
        chosen = np.argpartition(-guess, kept)[:kept]
        state = estimator.refresh(state, chosen, values[chosen])
        steps.append(guess)
    return np.stack(steps)


def label(estimator: Estimator) -> str:
    """Name and options that are not the default ones."""
    options = [
        f"{field.name} {getattr(estimator, field.name)}"
        for field in fields(estimator)  # pyright: ignore[reportArgumentType]
        if getattr(estimator, field.name) != field.default or field.name in ("rank", "bits", "part")
    ]
    return ", ".join([estimator.name, *options])


def print_selectors() -> None:
    """Time of each selection alone, with exact values that cost nothing."""
    rng = np.random.default_rng(0)
    scores = rng.standard_normal(SCORES, dtype=np.float32)
    spread = np.full(SCORES, 0.1, np.float32)
    estimate = Estimate(scores, spread=spread, bound=spread)
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
