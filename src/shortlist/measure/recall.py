"""Recall against bytes: what every estimator finds of the units that are truly needed, and what it reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from shortlist import _native
from shortlist.estimators import (
    Codebook,
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
from shortlist.estimators.base import table_shape
from shortlist.estimators.mixed_width import learn_ranks
from shortlist.measure.tables import Ffn, Head

HEAD_KEPT, FFN_WANTED, FFN_KEPT = 0.01, 0.1, 0.2  # shares of the units
BEST_ROWS = 32
BATCH = 64  # queries that are scored at once
MEAN_RANK = 64  # of mixed_width


@dataclass(frozen=True)
class Recall:
    """One estimator on one table.

    Attributes
    ----------
    estimator : str
        Its name.
    label : str
        Name and options.
    bytes_share : float
        What it reads for a query, as a share of the packed table.
    found : mapping of str to float
        Share of the units wanted that are on a shortlist made of its scores, by what was wanted.
    fit_seconds : float
    """

    estimator: str
    label: str
    bytes_share: float
    found: dict[str, float]
    fit_seconds: float


def main_estimators(spread: bool) -> Iterator[Estimator]:
    """One line of each method, at a few budgets; mixed width is learned for each table and comes apart.

    `bit_planes`, whose scores are those of 4 bits, is slow in readable code and left out; `magnitude` scores
    a layer's inputs, not rows. Low rank gives the spread of each query where that is small beside the table.
    """
    yield Random()
    for rank in (32, 64, 128):
        yield LowRank(rank, spread_per_query=spread)
    for rank in (64, 128):
        yield LowRank(rank, spread_per_query=spread, eight_bit=32)
    yield LowRankSparse(32, 8)
    for rank in (64, 256):
        yield Sketch(rank)
    yield Codebook(2, 64)
    for part in (8, 4):
        yield SharedCodebook(part)
    for bits in (1, 2, 3, 4):
        yield Quantized(bits)
    yield Neighbour()
    yield Exact()


def all_estimators(spread: bool) -> Iterator[Estimator]:
    """The same, with the variants of each method and those that take long to fit."""
    yield from main_estimators(spread)
    for metric in ("leanvec", "pca", "identity"):
        yield LowRank(64, metric, spread)
    yield Codebook(4)
    yield Codebook(2, 128)
    yield SharedCodebook(3)
    yield Quantized(3, "input")
    yield Quantized(3, code="shift")


Methods = Callable[[bool], Iterator[Estimator]]  # `main_estimators` or `all_estimators`


def estimators_for(
    table: Any, queries: np.ndarray, methods: Iterator[Estimator], *, learned: bool
) -> Iterator[tuple[Estimator, float]]:
    """Those of the methods that a table is wide enough for, and mixed width; with the seconds to learn it."""
    _, width = table_shape(table)
    for estimator in methods:
        if (getattr(estimator, "rank", None) or 0) < width:
            yield estimator, 0.0
    if learned and width > MEAN_RANK:
        start = time.perf_counter()
        estimator = learn_ranks(table, queries, MEAN_RANK)
        yield estimator, time.perf_counter() - start


def head_recalls(
    head: Head, methods: Methods = all_estimators, sample: int | None = None, seed: int = 0
) -> Iterator[Recall]:
    """Recall of the best row and of the best 32, among the best 1 % of the rows by estimate.

    Parameters
    ----------
    head : Head
    methods : callable
        The estimators to compare; mixed width comes on top.
    sample : int, optional
        Fit to this many random rows, and to the rows wanted, instead of all of them: a row is found where it
        scores as the best 1 % of the random ones do.
    seed : int
        Of the sample.
    """
    units, width = head.rows.rows, head.rows.cols
    exact = head_values(head, head.test)
    wanted = best_units(exact, min(BEST_ROWS, units))
    table, among = head.rows, units
    if sample is not None and sample < units:
        drawn = np.random.default_rng(seed).choice(units, sample, replace=False)
        chosen = np.concatenate([drawn, np.setdiff1d(wanted, drawn)]).astype(np.int32)
        table, among, exact = head.rows.unpack(chosen), sample, exact[:, chosen]
        places = np.empty(units, dtype=np.int64)
        places[chosen] = np.arange(len(chosen))
        wanted = places[wanted]
    kept = max(1, round(HEAD_KEPT * among))
    for estimator, learning in estimators_for(table, head.fit, methods(True), learned=True):
        state, seconds = fitted(estimator, table, head.fit)
        first, best = [], []
        for queries, values, rows in in_batches(head.test, exact, wanted):
            estimated = estimates(estimator, state, queries, values, kept)
            first.append(recall_within(estimated, rows[:, :1], kept, among))
            best.append(recall_within(estimated, rows, kept, among))
        yield Recall(
            estimator.name,
            label(estimator),
            estimator.bytes_per_query(units, width) / head.rows.nbytes,
            {"top-1": float(np.mean(first)), f"top-{BEST_ROWS}": float(np.mean(best))},
            learning + seconds,
        )


def ffn_recalls(ffn: Ffn, methods: Methods = all_estimators) -> Iterator[Recall]:
    """Recall of the tenth of the neurons with the largest |activation| x row norm, in the best fifth.

    Gate and up are estimated. The last entry takes the gates as they are, and nothing of up.
    """
    units, width = ffn.gate.shape
    table = ffn.table
    exact = ffn.test @ table.T
    kept = round(FFN_KEPT * units)
    wanted = best_units(ffn.true_sizes(ffn.test), round(FFN_WANTED * units))
    for estimator, learning in estimators_for(table, ffn.fit, methods(False), learned=False):
        state, seconds = fitted(estimator, table, ffn.fit)
        recalls = []
        for queries, values, best in in_batches(ffn.test, exact, wanted):
            gate, up = np.split(estimates(estimator, state, queries, values, 2 * kept), 2, axis=1)
            recalls.append(recall_within(ffn.sizes(gate, up), best, kept))
        share = estimator.bytes_per_query(2 * units, width) / ffn.nbytes
        yield Recall(
            estimator.name, label(estimator), share, {"top 10 %": float(np.mean(recalls))}, learning + seconds
        )
    gate = exact[:, :units]
    alone = recall_within(ffn.sizes(gate, np.ones_like(gate)), wanted, kept)
    yield Recall("gate", "magnitude of the gate, computed in full", 1 / 3, {"top 10 %": alone}, 0.0)


def head_values(head: Head, queries: np.ndarray) -> np.ndarray:
    """Exact values of all rows, float32 [queries, rows], as the decoder computes them."""
    dense = _native.Head(head.rows)
    return np.stack([dense.dense(query) for query in queries])


def recall_within(estimated: np.ndarray, wanted: np.ndarray, kept: int, among: int | None = None) -> float:
    """Mean share of the units wanted [queries, count] that are among the best `kept` by estimate.

    With `among`, the first so many units stand for all: found is what scores as the best `kept` of these do.
    """
    if among is not None and among < estimated.shape[1]:
        mark = -np.partition(-estimated[:, :among], kept - 1, axis=1)[:, kept - 1 : kept]
        return float(np.mean(np.take_along_axis(estimated, wanted, axis=1) >= mark))
    found = np.argpartition(-estimated, kept - 1, axis=1)[:, :kept]
    return float(np.mean([np.isin(w, f).mean() for w, f in zip(wanted, found, strict=True)]))


def best_units(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the best `count` units of each query, the best first."""
    some = np.argpartition(-values, count - 1, axis=1)[:, :count]
    return np.take_along_axis(some, np.argsort(-np.take_along_axis(values, some, 1), axis=1), 1)


def fitted(estimator: Estimator, table: Any, queries: np.ndarray) -> tuple[State, float]:
    """The state, and the seconds that it took."""
    start = time.perf_counter()
    state = estimator.fit(table, queries)
    return state, time.perf_counter() - start


def in_batches(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Slices of `BATCH` queries of arrays that go together."""
    for start in range(0, len(arrays[0]), BATCH):
        yield tuple(array[start : start + BATCH] for array in arrays)


def estimates(
    estimator: Estimator, state: State, queries: np.ndarray, exact: np.ndarray, kept: int
) -> np.ndarray:
    """Estimated values [queries, units]. A neighbour learns the exact ones of what each step keeps."""
    if not isinstance(estimator, Neighbour):
        return estimator.score(state, queries).values
    steps = []
    for query, values in zip(queries, exact, strict=True):
        guess = estimator.score(state, query).values
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
