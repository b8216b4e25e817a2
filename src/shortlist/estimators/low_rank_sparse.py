"""Low rank for what is smooth in the rows, and their largest outliers as they are."""

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
    row_slices,
    table_chunks,
    table_shape,
)
from shortlist.estimators.int8_codes import from_int8, int8_bytes, int8_layout
from shortlist.estimators.low_rank import LowRank
from shortlist.estimators.residuals import residual_root, residuals, spread


@dataclass(frozen=True)
class LowRankSparse(Estimator):
    """Scores rows through `rank` dimensions, and through the `outliers` inputs where that errs most.

    Splitting what is measured into a smooth part and sparse outliers is the idea of sparse
    over-parameterization (https://arxiv.org/abs/2202.14026). State: `projection` float32 [rank, width],
    `codes` int8 [units, rank] and `scales` float16 [units, groups] as in `low_rank`; `places` int16
    [units, outliers] and `values` float16 [units, outliers], what to add at these inputs; `residual` float32
    [units]: spread_i = residual_i * |query|.

    Parameters
    ----------
    rank : int
        Dimensions to keep, fewer than the table's width.
    outliers : int
        Inputs of each row that are corrected; each costs as much as four dimensions.
    """

    name: ClassVar[str] = "low_rank_sparse"
    gives: ClassVar[frozenset[str]] = frozenset({"spread"})
    rank: int = 64
    outliers: int = 8

    def __post_init__(self) -> None:
        if self.rank < 1 or self.outliers < 1:
            raise UsageError(
                "low_rank_sparse keeps at least 1 dimension and 1 outlier, "
                f"not {self.rank} and {self.outliers}"
            )

    def fit(self, table: Array | PackedTable, queries: Array, progress: Progress | None = None) -> State:
        xp = array_namespace(queries)
        units, width = table_shape(table)
        self._check_width(width)
        report = progress or (lambda share: None)
        check_queries(queries, width)
        sizes = xp.sqrt(xp.mean(queries * queries, axis=0))  # how much an error at each input weighs
        smooth = LowRank(self.rank).fit(table, queries, lambda share: report(0.5 * share))
        projection = smooth["projection"][: self.rank, :]
        root = residual_root(queries)
        parts = []
        for rows, chunk in table_chunks(table, like=queries):
            errors = chunk - from_int8(smooth["codes"][rows, :], smooth["scales"][rows, :]) @ projection
            places, values, left = take_outliers(errors, sizes, self.outliers)
            parts.append((places, values, residuals(left, root)))
            report(0.5 + 0.5 * rows.stop / units)
        places, values, residual = (xp.concat(part, axis=0) for part in zip(*parts, strict=True))
        return {
            "projection": projection,
            "codes": smooth["codes"],
            "scales": smooth["scales"],
            "places": places,
            "values": values,
            "residual": residual,
        }

    def estimate(self, state: State, query: Array) -> Estimate:
        xp = array_namespace(query)
        coordinates = query @ state["projection"].T
        parts = []
        for rows in row_slices(state["codes"].shape[0], query.shape[-1]):
            values = coordinates @ from_int8(state["codes"][rows, :], state["scales"][rows, :]).T
            places = xp.astype(state["places"][rows, :], xp.int64)
            added = xp.astype(state["values"][rows, :], xp.float32)
            for i in range(self.outliers):
                values = values + xp.take(query, places[:, i], axis=-1) * added[:, i]
            parts.append(values)
        return Estimate(xp.concat(parts, axis=-1), spread=spread(state["residual"], query))

    def layout(self, units: int, width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        self._check_width(width)
        codes, scales = int8_layout(units, self.rank)
        return {
            "projection": ("float32", (self.rank, width)),
            "codes": codes,
            "scales": scales,
            "places": ("int16", (units, self.outliers)),
            "values": ("float16", (units, self.outliers)),
            "residual": ("float32", (units,)),
        }

    def bytes_per_query(self, units: int, width: int) -> int:
        return 4 * self.rank * width + int8_bytes(units, self.rank) + units * (4 * self.outliers + 4)

    def _check_width(self, width: int) -> None:
        if not max(self.rank, self.outliers) < width <= 2**15:
            raise UsageError(
                f"low_rank_sparse of rank {self.rank} with {self.outliers} outliers needs a wider table, "
                f"up to {2**15}, not {width}"
            )


def take_outliers(errors: Array, sizes: Array, count: int) -> tuple[Array, Array, Array]:
    """Move the largest errors of each row out of it, an input's error weighed by its size.

    Parameters
    ----------
    errors : float32 [rows, width]
    sizes : float32 [width]
    count : int

    Returns
    -------
    places : int16 [rows, count]
    values : float16 [rows, count]
    left : float32 [rows, width]
        The errors without them.
    """
    xp = array_namespace(errors)
    columns = xp.arange(errors.shape[1], device=device(errors))
    places, values = [], []
    for _ in range(count):
        place = xp.argmax(xp.abs(errors) * sizes, axis=1, keepdims=True)
        value = xp.astype(xp.take_along_axis(errors, place, axis=1), xp.float16)
        errors = errors - xp.where(columns == place, xp.astype(value, xp.float32), xp.zeros_like(errors))
        places.append(xp.astype(place, xp.int16))
        values.append(value)
    return xp.concat(places, axis=1), xp.concat(values, axis=1), errors
