"""Data-aware low rank: the few directions in which the scores of real queries vary most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

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
    table_shape,
)
from shortlist.estimators.directions import METRICS, Metric, directions
from shortlist.estimators.int4_codes import from_int4, int4_bytes, int4_layout, to_int4
from shortlist.estimators.int8_codes import GROUP, from_int8, int8_bytes, int8_layout, to_int8

# With the basis B and the projection P of `directions`, W q = (W B) (P q) = codes . coordinates, and each
# coordinate of the queries that is cut off has variance 1. So the part of row i that is cut off, of norm
# `residual_i`, errs by a standard deviation of residual_i * t, t the root mean square of the coordinates that
# were cut off: 1 on average, and measured for each query. The rounding of the codes is an error of the
# same kind, and is counted into the residual as measured. The leading coordinates are far larger than the
# others: with 4 bits for all but 32, heads of SmolLM2-135M and Gemma-3-270M leave as many rows as with 8 bits
# for all.


@dataclass(frozen=True)
class LowRank(Estimator):
    """Scores rows through `rank` dimensions, stored in few bits; gives the spread of its error.

    The low-rank estimator of HiRE (https://arxiv.org/abs/2402.09360), fitted to the queries. State:

    - `projection` float32 [width, width]: its first `rank` rows give a query's coordinates z, the others
      those that are cut off, of root mean square t. Without `spread_per_query` only [rank, width], and t = 1.
    - `codes` int8 [units, rank] and `scales` float16 [units, groups]: value_i = (codes_i * scales_i) . z.
      With `eight_bit` only the leading coordinates; the others are in `trailing` uint8 [units, others / 2]
      and `trailing_scales` float16 [units, others / 32], as `int4_codes` has them.
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
    eight_bit : int, optional
        Leading dimensions that are stored in 8 bits, a multiple of 32 like the rank; the others take 4. Left
        out, all are.
    """

    name: ClassVar[str] = "low_rank"
    gives: ClassVar[Knowledge | None] = "confidence"
    rank: int = 64
    metric: Metric = "queries"
    spread_per_query: bool = True
    eight_bit: int | None = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UsageError(f"low_rank keeps at least 1 dimension, not {self.rank}")
        if self.metric not in METRICS:
            raise UsageError(f"metric of low_rank is one of {', '.join(METRICS)}, not {self.metric}")
        if self.eight_bit is not None and (
            self.rank % GROUP or self.eight_bit % GROUP or self.eight_bit < GROUP
        ):
            raise UsageError(
                f"low_rank stores whole {GROUP}s of dimensions in 8 bits and in 4, "
                f"not {self.eight_bit} and the others of {self.rank}"
            )

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
            parts.append(self._encode(chunk @ basis))
            report(0.5 + 0.5 * rows.stop / units)
        return {
            "projection": xp.astype(projection, xp.float32)[: self._projected(self.rank, width), :],
            **{name: xp.concat([part[name] for part in parts], axis=0) for name in parts[0]},
        }

    def score(self, state: State, query: Array) -> Scores:
        kept, t = project(state["projection"], query, self.rank)
        return Scores(kept @ decode(state).T, state["residual"], t)

    def truncate(self, state: State, rank: int) -> State:
        """State of the same fit at a lower rank, a multiple of 32: the leading columns of the codes."""
        xp = array_namespace(state["codes"])
        if rank % GROUP or not 0 < rank <= self.rank:
            raise UsageError(
                f"low_rank of rank {self.rank} is cut to smaller multiples of {GROUP}, not to {rank}"
            )
        dropped = decode(state)[:, rank:]
        cut = {
            "projection": state["projection"][: self._projected(rank, state["projection"].shape[1]), :],
            "codes": state["codes"][:, :rank],
            "scales": state["scales"][:, : rank // GROUP],
            "residual": xp.sqrt(state["residual"] ** 2 + xp.sum(dropped * dropped, axis=1)),
        }
        if self.eight_bit is not None:
            others = max(0, rank - self.eight_bit)
            cut["trailing"] = state["trailing"][:, : others // 2]
            cut["trailing_scales"] = state["trailing_scales"][:, : others // GROUP]
        return cut

    def layout(self, units: int, width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        self._check_width(width)
        codes, scales = int8_layout(units, self._eight)
        layout = {
            "projection": ("float32", (self._projected(self.rank, width), width)),
            "codes": codes,
            "scales": scales,
            "residual": ("float32", (units,)),
        }
        if self.eight_bit is not None:
            layout["trailing"], layout["trailing_scales"] = int4_layout(units, self.rank - self._eight)
        return layout

    def bytes_per_query(self, units: int, width: int) -> int:
        codes = int8_bytes(units, self._eight) + int4_bytes(units, self.rank - self._eight)
        return 4 * width * self._projected(self.rank, width) + codes + 4 * units

    @property
    def _eight(self) -> int:
        """Dimensions in 8 bits."""
        return self.rank if self.eight_bit is None else min(self.eight_bit, self.rank)

    def _encode(self, coordinates: Array) -> State:
        """Codes, scales and residual of rows [count, width] of all coordinates."""
        codes, scales, residual = encode(coordinates, self._eight)
        if self.eight_bit is None:
            return {"codes": codes, "scales": scales, "residual": residual}
        xp = array_namespace(coordinates)
        rest = coordinates[:, self._eight : self.rank]
        trailing, trailing_scales = to_int4(rest)
        kept = from_int4(trailing, trailing_scales)
        saved = xp.sum(rest * rest, axis=1) - xp.sum((rest - kept) ** 2, axis=1)
        return {
            "codes": codes,
            "scales": scales,
            "trailing": trailing,
            "trailing_scales": trailing_scales,
            "residual": xp.sqrt(xp.clip(residual**2 - saved, min=0.0)),
        }

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
    """A query's leading coordinates [..., rank], and the root mean square of the others [...].

    Where the projection has no others, it is the 1 that they have on average.
    """
    xp = array_namespace(query)
    coordinates = query @ projection.T
    cut = coordinates[..., rank:]
    if cut.shape[-1] == 0:
        return coordinates, xp.ones_like(query[..., 0])
    return coordinates[..., :rank], xp.sqrt(xp.mean(cut * cut, axis=-1))


def decode(state: State) -> Array:
    """Codes of the rows as float32 [units, rank]."""
    leading = from_int8(state["codes"], state["scales"])
    if "trailing" not in state:
        return leading
    trailing = from_int4(state["trailing"], state["trailing_scales"])
    return array_namespace(leading).concat([leading, trailing], axis=1)
