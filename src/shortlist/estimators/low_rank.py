"""Data-aware low rank: the few directions in which the scores of real queries vary most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from array_api_compat import array_namespace, device

from shortlist.errors import UsageError
from shortlist.estimators.base import (
    Array,
    Estimate,
    Estimator,
    PackedTable,
    Progress,
    State,
    table_chunks,
    table_shape,
)

GROUP = 32  # coordinates of a code that share one scale
RIDGE = 1e-2  # share of the mean variance that every direction has at least, seen in the queries or not

# The fit. Legend: W [units, width] the table, Q [samples, width] the queries, C = Q^T Q / samples + ridge.
#
# An estimate of W q through r dimensions errs, on average over the queries, by the squared Frobenius norm of
# (W - W') C^1/2; so the best W' of rank r is the truncated SVD of W C^1/2, not that of W. With any root R of
# C (R R^T = C) and the eigenvectors V of R^T W^T W R, sorted by eigenvalue,
#
#   W q = (W R V) (V^T R^-1 q) = codes . coordinates
#
# and each coordinate of the queries has variance 1. So the part of row i that is cut off, of norm
# `residual_i`, errs by a standard deviation of residual_i * t, t the root mean square of the coordinates that
# were cut off: 1 on average, and measured for each query. The rounding of the codes to 8 bits is an error of
# the same kind, and is counted into the residual as measured.


@dataclass(frozen=True)
class LowRank(Estimator):
    """Scores rows through `rank` dimensions, stored in 8 bits; gives the spread of its error.

    The low-rank estimator of HiRE (https://arxiv.org/abs/2402.09360), fitted to the queries. State:

    - `projection` float32 [width, width]: its first `rank` rows give a query's coordinates z, the others
      those that are cut off, of root mean square t.
    - `codes` int8 [units, rank] and `scales` float16 [units, groups]: value_i = (codes_i * scales_i) . z.
    - `residual` float32 [units]: spread_i = residual_i * t.

    Parameters
    ----------
    rank : int
        Dimensions to keep, fewer than the table's width.
    metric : {"queries", "identity"}
        What an error is weighted by: the queries' covariance, or nothing, which is the plain SVD of the
        table. The plain SVD is a baseline: its spread holds for queries without preferred directions.
    """

    name: ClassVar[str] = "low_rank"
    gives: ClassVar[frozenset[str]] = frozenset({"spread"})
    rank: int = 64
    metric: Literal["queries", "identity"] = "queries"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UsageError(f"low_rank keeps at least 1 dimension, not {self.rank}")
        if self.metric not in ("queries", "identity"):
            raise UsageError(f"metric of low_rank is queries or identity, not {self.metric}")

    def fit(self, table: Array | PackedTable, queries: Array, progress: Progress | None = None) -> State:
        xp = array_namespace(queries)
        units, width = table_shape(table)
        self._check_width(width)
        if queries.ndim != 2 or queries.shape[1] != width or queries.shape[0] == 0:
            raise UsageError(
                f"queries for a table of width {width} cannot have the shape {tuple(queries.shape)}"
            )
        report = progress or (lambda share: None)

        gram = xp.zeros((width, width), dtype=xp.float64, device=device(queries))
        for rows, chunk in table_chunks(table, like=queries):
            gram = gram + xp.astype(chunk.T @ chunk, xp.float64)
            report(0.5 * rows.stop / units)
        root, inverse = self._metric_root(queries)
        _, vectors = xp.linalg.eigh(root.T @ gram @ root)
        vectors = xp.flip(vectors, axis=1)  # largest eigenvalue first
        basis = xp.astype(root @ vectors, xp.float32)

        parts = []
        for rows, chunk in table_chunks(table, like=queries):
            parts.append(self._encode(chunk @ basis))
            report(0.5 + 0.5 * rows.stop / units)
        codes, scales, residual = (xp.concat(part, axis=0) for part in zip(*parts, strict=True))
        projection = xp.astype(vectors.T @ inverse, xp.float32)
        return {"projection": projection, "codes": codes, "scales": scales, "residual": residual}

    def estimate(self, state: State, query: Array) -> Estimate:
        xp = array_namespace(query)
        coordinates = query @ state["projection"].T
        kept, cut = coordinates[..., : self.rank], coordinates[..., self.rank :]
        t = xp.sqrt(xp.mean(cut * cut, axis=-1))
        return Estimate(kept @ decode(state).T, spread=t[..., None] * state["residual"])

    def truncate(self, state: State, rank: int) -> State:
        """State of the same fit at a lower rank, a multiple of 32: the leading columns of the codes."""
        xp = array_namespace(state["codes"])
        if rank % GROUP or not 0 < rank <= self.rank:
            raise UsageError(
                f"low_rank of rank {self.rank} is cut to smaller multiples of {GROUP}, not to {rank}"
            )
        dropped = decode(state)[:, rank:]
        return {
            "projection": state["projection"],
            "codes": state["codes"][:, :rank],
            "scales": state["scales"][:, : rank // GROUP],
            "residual": xp.sqrt(state["residual"] ** 2 + xp.sum(dropped * dropped, axis=1)),
        }

    def layout(self, units: int, width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        self._check_width(width)
        return {
            "projection": ("float32", (width, width)),
            "codes": ("int8", (units, self.rank)),
            "scales": ("float16", (units, -(-self.rank // GROUP))),
            "residual": ("float32", (units,)),
        }

    def bytes_per_query(self, units: int, width: int) -> int:
        return 4 * width * width + units * (self.rank + 2 * -(-self.rank // GROUP) + 4)

    def _check_width(self, width: int) -> None:
        if self.rank >= width:
            raise UsageError(f"low_rank of rank {self.rank} needs a table wider than {width}")

    def _metric_root(self, queries: Array) -> tuple[Array, Array]:
        """A root R of the metric and its inverse, float64 [width, width]."""
        xp = array_namespace(queries)
        samples, width = queries.shape
        if self.metric == "identity":
            return (xp.eye(width, dtype=xp.float64, device=device(queries)),) * 2
        queries = xp.astype(queries, xp.float64)
        covariance = queries.T @ queries / samples
        variances, vectors = xp.linalg.eigh(covariance)
        floor = RIDGE * xp.mean(variances)
        if not floor > 0:
            raise UsageError("low_rank cannot be fitted to queries that are all zero or not finite")
        deviations = xp.sqrt(xp.clip(variances, min=0.0) + floor)
        return vectors * deviations, (vectors / deviations).T

    def _encode(self, coordinates: Array) -> tuple[Array, Array, Array]:
        """Round the leading coordinates of rows [count, width] to 8 bits; the residual is what is lost."""
        xp = array_namespace(coordinates)
        codes, scales = [], []
        for start in range(0, self.rank, GROUP):
            part = coordinates[:, start : min(start + GROUP, self.rank)]
            largest = xp.clip(xp.max(xp.abs(part), axis=1) / 127.0, max=65504.0)  # the largest 16-bit float
            scales.append(xp.astype(largest, xp.float16))
            scale = xp.astype(scales[-1], xp.float32)[:, None]
            rounded = xp.round(part / xp.where(scale == 0, xp.ones_like(scale), scale))
            codes.append(xp.astype(xp.clip(rounded, min=-127.0, max=127.0), xp.int8))
        state = {"codes": xp.concat(codes, axis=1), "scales": xp.stack(scales, axis=1)}
        rounding = coordinates[:, : self.rank] - decode(state)
        cut = coordinates[:, self.rank :]
        residual = xp.sqrt(xp.sum(rounding * rounding, axis=1) + xp.sum(cut * cut, axis=1))
        return state["codes"], state["scales"], residual


def decode(state: State) -> Array:
    """Codes of the rows as float32 [units, rank]."""
    xp = array_namespace(state["codes"])
    rank = state["codes"].shape[1]
    scales = xp.repeat(xp.astype(state["scales"], xp.float32), GROUP, axis=1)[:, :rank]
    return xp.astype(state["codes"], xp.float32) * scales
