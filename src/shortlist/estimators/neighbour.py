"""What a unit scored when it was last computed, as a guess of what it scores now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from array_api_compat import array_namespace

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
from shortlist.estimators.directions import second_moment

# The scores of a unit over the queries, which follow each other, are taken for a first-order autoregression:
#
#   score' - mean = correlation * (score - mean) + noise of variance (1 - correlation^2) deviation^2
#
# So a guess that errs by `spread` errs by spread' one step on, where
#   spread'^2 = correlation^2 spread^2 + (1 - correlation^2) deviation^2,
# and a unit that is not computed goes back to its mean, and its spread to its deviation, as time passes. A
# selector that looks at the spread therefore refreshes what has become uncertain.
EASY = 1e-6  # least share of the mean variance that a unit is given, so that every spread is positive


@dataclass(frozen=True)
class Neighbour(Estimator):
    """Scores units by what they scored at earlier steps, whatever the query; gives the spread of its error.

    Consecutive tokens need many of the same units (LLM in a Flash, https://arxiv.org/abs/2312.11514); here
    each unit remembers what its scores are worth later on. State, all float32 [units]: `mean`, `deviation`
    and `correlation` of the scores of successive queries, and `values` and `spread`, the guess of the next
    scores, which `refresh` carries from step to step.

    The queries that it is fitted to follow each other in time.
    """

    name: ClassVar[str] = "neighbour"
    gives: ClassVar[Knowledge | None] = "confidence"

    def fit(self, table: Array | PackedTable, queries: Array, progress: Progress | None = None) -> State:
        xp = array_namespace(queries)
        units, width = table_shape(table)
        check_queries(queries, width)
        centre = xp.mean(queries, axis=0)
        moved = queries - centre
        covariance = second_moment(queries) - xp.astype(centre[:, None] * centre, xp.float64)
        before, after = moved[:-1, :], moved[1:, :]
        lagged = xp.astype(before.T @ after, xp.float64) / max(1, before.shape[0])
        covariance, lagged = (xp.astype(matrix, xp.float32) for matrix in (covariance, lagged))
        parts = []
        for rows, chunk in table_chunks(table, like=queries):
            variance = xp.sum((chunk @ covariance) * chunk, axis=1)
            together = xp.sum((chunk @ lagged) * chunk, axis=1)
            parts.append((chunk @ centre, variance, together))
            if progress:
                progress(rows.stop / units)
        mean, variance, together = (xp.concat(part) for part in zip(*parts, strict=True))
        variance = xp.clip(variance, min=0.0)
        variance = variance + EASY * xp.mean(variance)
        divisor = xp.where(variance > 0, variance, xp.ones_like(variance))  # a table of zeros has none
        correlation = xp.clip(together / divisor, min=0.0, max=1.0)
        deviation = xp.sqrt(variance)
        return {
            "mean": mean,
            "deviation": deviation,
            "correlation": correlation,
            "values": mean,
            "spread": deviation,
        }

    def score(self, state: State, query: Array) -> Scores:
        xp = array_namespace(query)
        shape = (*query.shape[:-1], state["values"].shape[0])
        return Scores(xp.broadcast_to(state["values"], shape), state["spread"])

    def refresh(self, state: State, indices: Array, values: Array) -> State:
        """The state for the next step, after the units at `indices` were computed and had these `values`."""
        xp = array_namespace(values)
        known, spread = (xp.asarray(state[name], copy=True) for name in ("values", "spread"))
        known[indices], spread[indices] = values, 0.0
        correlation, mean = state["correlation"], state["mean"]
        fresh = (1 - correlation**2) * state["deviation"] ** 2
        return {
            **state,
            "values": mean + correlation * (known - mean),
            "spread": xp.sqrt((correlation * spread) ** 2 + fresh),
        }

    def layout(self, units: int, width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        names = ("mean", "deviation", "correlation", "values", "spread")
        return dict.fromkeys(names, ("float32", (units,)))

    def bytes_per_query(self, units: int, width: int) -> int:
        return 4 * 5 * units  # all of them: the guess is read, and carried on with the rest
