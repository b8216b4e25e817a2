"""Data-aware low rank: the few directions in which the scores of real queries vary most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from array_api_compat import array_namespace, device

from shortlist.errors import UsageError
from shortlist.estimators.base import (
    Array,
    Estimate,
    Estimator,
    PackedTable,
    Progress,
    State,
    check_queries,
    table_chunks,
    table_shape,
)
from shortlist.estimators.directions import METRICS, Metric, directions
from shortlist.estimators.int8_codes import GROUP, from_int8, int8_bytes, int8_layout, to_int8

# With the basis B and the projection P of `directions`, W q = (W B) (P q) = codes . coordinates, and each
# coordinate of the queries that is cut off has variance 1. So the part of row i that is cut off, of norm
# `residual_i`, errs by a standard deviation of residual_i * t, t the root mean square of the coordinates that
# were cut off: 1 on average, and measured for each query. The rounding of the codes to 8 bits is an error of
# the same kind, and is counted into the residual as measured.


@dataclass(frozen=True)
class LowRank(Estimator):
    """Scores rows through `rank` dimensions, stored in 8 bits; gives the spread of its error.

    The low-rank estimator of HiRE (https://arxiv.org/abs/2402.09360), fitted to the queries. State:

    - `projection` float32 [width, width]: its first `rank` rows give a query's coordinates z, the others
      those that are cut off, of root mean square t. Without `spread_per_query` only [rank, width], and t = 1.
    - `codes` int8 [units, rank] and `scales` float16 [units, groups]: value_i = (codes_i * scales_i) . z.
    - `residual` float32 [units]: spread_i = residual_i * t.

    Parameters
    ----------
    rank : int
        Dimensions to keep, fewer than the table's width.
    metric : {"queries", "identity", "pca", "leanvec"}
        What an error is weighted by. `queries` is the best rank for the scores of the queries. The others are
        baselines: `identity`, the plain SVD of the table, whose spread holds for queries without preferred
        directions; `pca`, the queries' covariance alone (PCA-RAG, https://arxiv.org/abs/2504.08386);
        `leanvec`, one orthonormal projection for both (https://arxiv.org/abs/2312.16335).
    spread_per_query : bool
        Measure how much of each query is cut off. A table with few rows for its width, such as that of a
        feed-forward layer, is cheaper to read than the directions that are cut off: leave them out there.
    """

    name: ClassVar[str] = "low_rank"
    gives: ClassVar[frozenset[str]] = frozenset({"spread"})
    rank: int = 64
    metric: Metric = "queries"
    spread_per_query: bool = True

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UsageError(f"low_rank keeps at least 1 dimension, not {self.rank}")
        if self.metric not in METRICS:
            raise UsageError(f"metric of low_rank is one of {', '.join(METRICS)}, not {self.metric}")

    def fit(self, table: Array | PackedTable, queries: Array, progress: Progress | None = None) -> State:
        xp = array_namespace(queries)
        units, width = table_shape(table)
        self._check_width(width)
        check_queries(queries, width)
        report = progress or (lambda share: None)

        gram = table_gram(table, queries, lambda share: report(0.5 * share))
        basis, projection = directions(self.metric, gram, queries, self.rank)
        basis = xp.astype(basis, xp.float32)
        parts = []
        for rows, chunk in table_chunks(table, like=queries):
            parts.append(encode(chunk @ basis, self.rank))
            report(0.5 + 0.5 * rows.stop / units)
        codes, scales, residual = (xp.concat(part, axis=0) for part in zip(*parts, strict=True))
        return {
            "projection": xp.astype(projection, xp.float32)[: self._projected(self.rank, width), :],
            "codes": codes,
            "scales": scales,
            "residual": residual,
        }

    def estimate(self, state: State, query: Array) -> Estimate:
        kept, t = project(state["projection"], query, self.rank)
        return Estimate(kept @ decode(state).T, spread=t * state["residual"])

    def truncate(self, state: State, rank: int) -> State:
        """State of the same fit at a lower rank, a multiple of 32: the leading columns of the codes."""
        xp = array_namespace(state["codes"])
        if rank % GROUP or not 0 < rank <= self.rank:
            raise UsageError(
                f"low_rank of rank {self.rank} is cut to smaller multiples of {GROUP}, not to {rank}"
            )
        dropped = decode(state)[:, rank:]
        return {
            "projection": state["projection"][: self._projected(rank, state["projection"].shape[1]), :],
            "codes": state["codes"][:, :rank],
            "scales": state["scales"][:, : rank // GROUP],
            "residual": xp.sqrt(state["residual"] ** 2 + xp.sum(dropped * dropped, axis=1)),
        }

    def layout(self, units: int, width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        self._check_width(width)
        codes, scales = int8_layout(units, self.rank)
        return {
            "projection": ("float32", (self._projected(self.rank, width), width)),
            "codes": codes,
            "scales": scales,
            "residual": ("float32", (units,)),
        }

    def bytes_per_query(self, units: int, width: int) -> int:
        return 4 * width * self._projected(self.rank, width) + int8_bytes(units, self.rank) + 4 * units

    def _projected(self, rank: int, width: int) -> int:
        return width if self.spread_per_query else rank

    def _check_width(self, width: int) -> None:
        if self.rank >= width:
            raise UsageError(f"low_rank of rank {self.rank} needs a table wider than {width}")


def table_gram(table: Array | PackedTable, like: Array, progress: Progress | None = None) -> Array:
    """W^T W of a table, float64 [width, width], as an array of the namespace of `like`."""
    xp = array_namespace(like)
    units, width = table_shape(table)
    gram = xp.zeros((width, width), dtype=xp.float64, device=device(like))
    for rows, chunk in table_chunks(table, like):
        gram = gram + xp.astype(chunk.T @ chunk, xp.float64)
        if progress:
            progress(rows.stop / units)
    return gram


def encode(coordinates: Array, rank: int) -> tuple[Array, Array, Array]:
    """Round the leading coordinates of rows [count, width] to 8 bits; the residual is what is lost."""
    xp = array_namespace(coordinates)
    codes, scales = to_int8(coordinates[:, :rank])
    rounding = coordinates[:, :rank] - from_int8(codes, scales)
    cut = coordinates[:, rank:]
    return codes, scales, xp.sqrt(xp.sum(rounding * rounding, axis=1) + xp.sum(cut * cut, axis=1))


def project(projection: Array, query: Array, rank: int) -> tuple[Array, Array]:
    """A query's leading coordinates [..., rank], and the root mean square of the others [..., 1].

    Where the projection has no others, it is the 1 that they have on average.
    """
    xp = array_namespace(query)
    coordinates = query @ projection.T
    cut = coordinates[..., rank:]
    if cut.shape[-1] == 0:
        return coordinates, xp.ones_like(query[..., :1])
    return coordinates[..., :rank], xp.sqrt(xp.mean(cut * cut, axis=-1, keepdims=True))


def decode(state: State) -> Array:
    """Codes of the rows as float32 [units, rank]."""
    return from_int8(state["codes"], state["scales"])
