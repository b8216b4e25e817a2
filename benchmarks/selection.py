"""What selection costs beside a decode step: the native heads', and every selector in NumPy.

A native head scores, selects and computes rows in one call. The selection of `confidence` is such a call that
keeps one row besides the probes, less the estimate alone; that of `certified` is its call, less the bounds
alone and less the rows that it computes. The selectors in NumPy get the same estimates, and exact values that
cost nothing. The step is counted without the rows that are read, so that it is no longer than in use. One
thread; the median over positions of the best of a few tries, in turns.

    .venv/bin/python benchmarks/selection.py [--text FILE] [--model gemma-3-270m]
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "lab" / "systems"))

from real_tables import arguments_of, open_model

from shortlist import _native
from shortlist.estimators import LowRank, Scores
from shortlist.model.decoder import Decoder
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
from shortlist.sites.head import Head, exact_head

RANK, SIGMA, PROBES, FETCH = 64, 6.0, 256, 1024
POSITIONS, TRIES = 32, 5


def main() -> None:
    arguments = arguments_of(__doc__, "gemma-3-270m")
    with open_model(arguments.model, arguments.text, fit=1024, test=POSITIONS + 1) as model:
        head = model.head()
        decoder = Decoder(model.checkpoint, threads=1)
    estimator = LowRank(RANK)
    state = estimator.fit(head.rows, head.fit)
    queries = [np.ascontiguousarray(query) for query in head.test[:POSITIONS]]
    estimated = Head(head.rows, None, estimator, Confidence(SIGMA, probes=PROBES), state)
    exact = exact_head(head.rows)
    cache = decoder.new_cache(POSITIONS * (TRIES + 1))
    token = np.zeros(1, np.int32)

    layers = measure({"layers": lambda _: lambda: decoder.forward(token, cache)}, queries)["layers"]
    native = measure(native_calls(estimated, exact), queries)
    print(f"{head.rows.rows} rows; layers {layers:.2f} ms a token; 1 thread, {POSITIONS} positions")
    print("native calls, ms: " + ", ".join(f"{name} {ms:.2f}" for name, ms in native.items()))
    print("\n| selection | layers and scores, ms | selection, ms | of all |\n| --- | ---: | ---: | ---: |")
    for name, scores, selection in (
        ("confidence, native", "estimate", native["argmax without sigma"] - native["estimate"]),
        ("certified, native", "bounds", native["certified"] - native["bounds"] - native["certified rows"]),
    ):
        print_row(name, layers + native[scores], selection)
    for name, ms in measure(selector_calls(estimator.score(state, head.test)), queries).items():
        print_row(name, layers + native["estimate"], ms)


def print_row(name: str, step: float, selection: float) -> None:
    print(f"| {name} | {step:.2f} | {selection:.2f} | {selection / (step + selection):.1%} |")


def native_calls(estimated: Head, exact: Head) -> dict[str, Callable]:
    """Each call, made ready for a query."""
    scorer, rows = estimated._scorer, estimated._native
    assert scorer is not None
    policy, without = (_native.Policy.probes(sigma, None, PROBES) for sigma in (SIGMA, 0.0))

    def certified_rows(query: np.ndarray) -> Callable:
        _, upper = exact.bounds(query)
        left = np.flatnonzero(upper >= exact.exact_rows(query, np.arange(len(upper))).max())
        return lambda: exact.exact_rows(query, left)

    return {
        "argmax": lambda query: lambda: rows.argmax(scorer, query[None], policy),
        "argmax without sigma": lambda query: lambda: rows.argmax(scorer, query[None], without),
        "estimate": lambda query: lambda: rows.scores(scorer, query),
        "certified": lambda query: lambda: exact.argmax(query),
        "bounds": lambda query: lambda: exact.scores(query),
        "certified rows": certified_rows,
    }


def selector_calls(estimates: Scores) -> dict[str, Callable]:
    """Each selector, made ready for one position after the other."""
    values, spread = estimates.values, estimates.reach()
    units = values.shape[1]
    selectors: list[Selector] = [
        Confidence(SIGMA, probes=PROBES),
        Certified(),
        TopK(1, FETCH),
        GroupedTopK(1, FETCH, group=8),
        GroupedTopK(1, FETCH, group=16),
        TwoStageTopK(1, FETCH),
        Threshold.calibrated(values, FETCH / units),
        StatisticalTopK(FETCH / units),
        ScoreMass(0.5, scores="logits"),
        Margin(FETCH),
    ]

    def ready(selector: Selector, positions: Iterator[int]) -> Callable:
        def of_next(_: np.ndarray) -> Callable:
            i = next(positions)
            # As many units are left as by confidence.
            margins = SIGMA * spread[i] if selector.needs == "bound" else spread[i]
            estimate = Scores(values[i], margins)
            return lambda: selector.select(estimate, lambda indices: values[i][indices])

        return of_next

    return {f"{selector}, NumPy": ready(selector, iter(range(POSITIONS))) for selector in selectors}


def measure(calls: Mapping[str, Callable], queries: list[np.ndarray]) -> dict[str, float]:
    """Milliseconds of each call."""
    best: dict[str, list[float]] = {name: [] for name in calls}
    for query in queries:
        ready = {name: call(query) for name, call in calls.items()}
        seconds = {name: float("inf") for name in calls}
        for _ in range(TRIES):
            for name, call in ready.items():
                start = time.perf_counter()
                call()
                seconds[name] = min(seconds[name], time.perf_counter() - start)
        for name in calls:
            best[name].append(seconds[name])
    return {name: 1000 * float(np.median(times)) for name, times in best.items()}


if __name__ == "__main__":
    main()
