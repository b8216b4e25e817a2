"""Low rank for what is smooth in the rows, and corrections at single inputs for what sticks out."""

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
    row_slices,
    table_chunks,
    table_shape,
)
from shortlist.estimators.int8_codes import from_int8, int8_bytes, int8_layout
from shortlist.estimators.low_rank import LowRank
from shortlist.estimators.residuals import length, residual_root, residuals


@dataclass(frozen=True)
class LowRankSparse(Estimator):
    """Scores rows through `rank` dimensions, and corrects each at the inputs where that helps most.

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
    gives: ClassVar[Knowledge | None] = "confidence"
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
        smooth = LowRank(self.rank).fit(table, queries, lambda share: report(0.5 * share))
        projection = smooth["projection"][: self.rank, :]
        root = residual_root(queries)
        metric = root @ root.T
        parts = []
        for rows, chunk in table_chunks(table, like=queries):
            errors = chunk - from_int8(smooth["codes"][rows, :], smooth["scales"][rows, :]) @ projection
            places, values, left = pursue(errors, metric, self.outliers)
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

    def score(self, state: State, query: Array) -> Scores:
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
        return Scores(xp.concat(parts, axis=-1), state["residual"], length(query))

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


def pursue(errors: Array, metric: Array, count: int) -> tuple[Array, Array, Array]:
    """Correct each row where that helps the queries most, one input after the other.

    A row's error e weighs e^T C e on queries of second moment C. A correction d at input j takes away most,
    (C e)_j^2 / C_jj, with d = (C e)_j / C_jj, which is not the error at that input: errors of a low rank at
    different inputs balance each other, and leaving out one of them would upset that.

    Parameters
    ----------
    errors : float32 [rows, width]
    metric : float32 [width, width]
        C, up to a factor.
    count : int

    Returns
    -------
    places : int16 [rows, count]
    values : float16 [rows, count]
    left : float32 [rows, width]
        The errors that remain.
    """
    xp = array_namespace(errors)
    columns = xp.arange(errors.shape[1], device=device(errors))
    own = xp.linalg.diagonal(metric)
    weighed = errors @ metric
    places, values = [], []
    for _ in range(count):
        place = xp.argmax(xp.abs(weighed) / xp.sqrt(own), axis=1)
        best = xp.take_along_axis(weighed, place[:, None], axis=1)[:, 0] / own[place]
        values.append(xp.astype(best, xp.float16))
        places.append(xp.astype(place, xp.int16))
        correction = xp.astype(values[-1], xp.float32)[:, None]
        errors = errors - xp.where(columns == place[:, None], correction, xp.zeros_like(errors))
        weighed = weighed - correction * metric[place, :]
    return xp.stack(places, axis=1), xp.stack(values, axis=1), errors
