"""Low rank with more dimensions for the rows that are often needed than for the others."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from array_api_compat import array_namespace, device

from shortlist.errors import UsageError
from shortlist.estimators.base import (
    Array,
    Estimator,
    Knowledge,
    PackedTable,
    Progress,
    Scores,
    State,
    check_queries,
    table_chunks,
    table_rows,
    table_shape,
)
from shortlist.estimators.directions import directions
from shortlist.estimators.int8_codes import from_int8, int8_bytes, int8_layout
from shortlist.estimators.low_rank import encode, project, table_gram

SAMPLES = 512  # queries that say how often a row is needed
WANTED = 32  # rows that each of them wants
BATCH = 64  # queries whose scores are sorted at once


@dataclass(frozen=True)
class MixedWidth(Estimator):
    """Scores groups of rows through as many dimensions each as `ranks` says; gives the spread of its error.

    The rows are ordered by how often they are needed and cut into equal groups, the most needed first: on
    vocabulary rows these are the frequent words, as in the mixed dimensions of DNIS
    (https://arxiv.org/abs/2006.04466). The dimensions are those of `low_rank`, and a mask keeps the first of
    them in each group; `learn_ranks` finds it. State:

    - `projection` float32 [width, width]: coordinates of a query; t is the root mean square of those after
      the largest rank.
    - `order` int32 [units]: where the score of each row stands among those of the groups.
    - `codes.g` int8 [rows of group g, ranks[g]] and `scales.g` float16: its rows.
    - `residual` float32 [units]: spread_i = residual_i * t.

    Parameters
    ----------
    ranks : tuple of int
        Dimensions of each group, fewer than the table's width.
    """

    name: ClassVar[str] = "mixed_width"
    gives: ClassVar[Knowledge | None] = "confidence"
    ranks: tuple[int, ...] = (128, 64, 64, 32)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ranks", tuple(self.ranks))  # a recipe's JSON holds a list
        if not self.ranks or min(self.ranks) < 1:
            raise UsageError(f"mixed_width keeps at least 1 dimension in at least 1 group, not {self.ranks}")

    def fit(self, table: Array | PackedTable, queries: Array, progress: Progress | None = None) -> State:
        xp = array_namespace(queries)
        units, width = table_shape(table)
        self._check(units, width)
        check_queries(queries, width)
        report = progress or (lambda share: None)
        importance = need(table, queries, lambda share: report(0.5 * share))
        widest = max(self.ranks)
        gram = table_gram(table, queries, lambda share: report(0.5 + 0.2 * share))
        basis, projection = directions("queries", gram, queries, widest)
        basis = xp.astype(basis, xp.float32)
        parts = []
        for rows, chunk in table_chunks(table, like=queries):
            parts.append(encode(chunk @ basis, widest))
            report(0.7 + 0.3 * rows.stop / units)
        codes, scales, residual = (xp.concat(part, axis=0) for part in zip(*parts, strict=True))

        by_need = xp.argsort(importance, descending=True, stable=True)
        state = {"projection": xp.astype(projection, xp.float32)}
        state["order"] = xp.astype(xp.argsort(by_need), xp.int32)
        dropped = []
        for g, (rows, rank) in enumerate(zip(self._groups(units), self.ranks, strict=True)):
            members = by_need[rows]
            state[f"codes.{g}"] = codes[members, :][:, :rank]
            state[f"scales.{g}"] = scales[members, :][:, : int8_layout(1, rank)[1][1][1]]
            decoded = from_int8(codes[members, :], scales[members, :])
            dropped.append(xp.sum(decoded[:, rank:] ** 2, axis=1))
        lost = xp.take(xp.concat(dropped), xp.astype(state["order"], xp.int64))
        state["residual"] = xp.sqrt(residual**2 + lost)
        return state

    def score(self, state: State, query: Array) -> Scores:
        xp = array_namespace(query)
        kept, t = project(state["projection"], query, max(self.ranks))
        scores = [
            kept[..., :rank] @ from_int8(state[f"codes.{g}"], state[f"scales.{g}"]).T
            for g, rank in enumerate(self.ranks)
        ]
        values = xp.take(xp.concat(scores, axis=-1), xp.astype(state["order"], xp.int64), axis=-1)
        return Scores(values, state["residual"], t)

    def layout(self, units: int, width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        self._check(units, width)
        layout = {
            "projection": ("float32", (width, width)),
            "order": ("int32", (units,)),
            "residual": ("float32", (units,)),
        }
        for g, (rows, rank) in enumerate(zip(self._groups(units), self.ranks, strict=True)):
            layout[f"codes.{g}"], layout[f"scales.{g}"] = int8_layout(rows.stop - rows.start, rank)
        return layout

    def bytes_per_query(self, units: int, width: int) -> int:
        groups = zip(self._groups(units), self.ranks, strict=True)
        return 4 * width * width + 8 * units + sum(int8_bytes(r.stop - r.start, rank) for r, rank in groups)

    def _groups(self, units: int) -> list[slice]:
        return group_slices(units, len(self.ranks))

    def _check(self, units: int, width: int) -> None:
        if max(self.ranks) >= width or len(self.ranks) > units:
            raise UsageError(
                f"mixed_width of ranks {self.ranks} needs a table that is wider, or has more rows"
            )


def group_slices(units: int, groups: int) -> list[slice]:
    """Slices of `groups` about equal runs of units."""
    edges = [units * g // groups for g in range(groups + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def need(table: Array | PackedTable, queries: Array, progress: Progress | None = None) -> Array:
    """How often each row is needed: its mean probability, float32 [units], in a softmax over all rows."""
    return _mean_probabilities(_sampled_scores(table, _sample(queries), progress))


def learn_ranks(
    table: Array | PackedTable, queries: Array, rank: int, groups: int = 8, keep: float = 0.01
) -> MixedWidth:
    """The estimator whose groups have a mean of at most `rank` dimensions, put where they find most rows.

    DNIS learns a mask over groups and dimensions by gradients and cuts it by a threshold. The table here is
    given, so what the mask is for can be counted: the rows that the queries want, of each group, which the
    group's first r dimensions place among the best `keep` of all rows. The dimensions go, run by run, to the
    group that gains most rows for each. (What an error costs in squares puts too many into the first group.)

    Parameters
    ----------
    table, queries
        As `fit` takes them.
    rank : int
        Mean number of dimensions that may be spent; fewer, where more would find nothing.
    groups : int
    keep : float
        Share of the rows that will be on a shortlist.
    """
    xp = array_namespace(queries)
    units, width = table_shape(table)
    if not (1 <= rank < width and 1 <= groups <= units):
        raise UsageError(
            f"a mean of {rank} dimensions in {groups} groups does not fit a table {units} x {width}"
        )
    kept = max(1, round(keep * units))
    wanted = min(WANTED, kept)
    sample = _sample(queries)
    scores = _sampled_scores(table, sample)
    place = xp.argsort(xp.argsort(_mean_probabilities(scores), descending=True, stable=True))
    basis, projection = directions("queries", table_gram(table, queries), queries, rank)
    basis, projection = xp.astype(basis, xp.float32), xp.astype(projection, xp.float32)
    found = xp.zeros((groups, width), dtype=xp.float32, device=device(queries))
    for start in range(0, sample.shape[0], BATCH):
        batch = scores[:, start : start + BATCH]
        ordered = xp.sort(batch, axis=0)
        rows, columns = xp.nonzero(batch >= ordered[units - wanted, :])
        coordinates = table_rows(table, np.asarray(rows), like=queries) @ basis
        estimates = xp.cumulative_sum(coordinates * (sample[start + columns, :] @ projection.T), axis=1)
        reaching = xp.astype(estimates >= ordered[units - kept, :][columns][:, None], xp.float32)
        inside = [
            (place[rows] >= group.start) & (place[rows] < group.stop) for group in group_slices(units, groups)
        ]
        found = found + xp.astype(xp.stack(inside), xp.float32) @ reaching
    return MixedWidth(_spend([[float(count) for count in group] for group in found], rank * groups))


def _spend(found: list[list[float]], budget: int) -> tuple[int, ...]:
    """Dimensions of each group, where `found` [groups, width] are the rows that so many of them find.

    Every group has one at least. Each step takes the run of dimensions with the greatest gain for each, until
    the budget is spent or nothing more is gained.
    """
    curves = np.array(found)[:, :-1]  # not the whole width: that would be exact
    ranks = np.ones(len(curves), dtype=int)
    while left := budget - int(ranks.sum()):
        runs = []
        for group, (curve, rank) in enumerate(zip(curves, ranks, strict=True)):
            gains = curve[rank : rank + left] - curve[rank - 1]
            if len(gains):
                slopes = gains / np.arange(1, len(gains) + 1)
                runs.append((slopes.max(), group, int(slopes.argmax()) + 1))
        gain, group, run = max(runs, default=(0.0, 0, 0))
        if gain <= 0:
            break
        ranks[group] += run
    return tuple(ranks.tolist())


def _sample(queries: Array) -> Array:
    return queries[:: max(1, queries.shape[0] // SAMPLES), :]


def _sampled_scores(table: Array | PackedTable, sample: Array, progress: Progress | None = None) -> Array:
    """Exact scores, float32 [units, samples]."""
    xp = array_namespace(sample)
    units, _ = table_shape(table)
    scores = []
    for rows, chunk in table_chunks(table, like=sample):
        scores.append(chunk @ sample.T)
        if progress:
            progress(rows.stop / units)
    return xp.concat(scores, axis=0)


def _mean_probabilities(scores: Array) -> Array:
    """Softmax over the rows, averaged over the samples [units]."""
    xp = array_namespace(scores)
    masses = xp.exp(scores - xp.max(scores, axis=0))
    return xp.mean(masses / xp.sum(masses, axis=0), axis=1)
