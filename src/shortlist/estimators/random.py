"""Scores that know nothing: the floor that every estimator has to leave behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from array_api_compat import array_namespace, device

from shortlist.estimators.base import Array, Estimator, PackedTable, Progress, Scores, State, table_shape

DIRECTIONS = 8  # enough that the order of the units differs from query to query


@dataclass(frozen=True)
class Random(Estimator):
    """Scores the rows of another table, which is drawn at random: a shortlist of it is any shortlist.

    State: `directions` float32 [8, width] and `rows` float32 [units, 8]. The same query has the same scores.

    Parameters
    ----------
    seed : int
        Of the draws.
    """

    name: ClassVar[str] = "random"
    seed: int = 0

    def fit(self, table: Array | PackedTable, queries: Array, progress: Progress | None = None) -> State:
        xp = array_namespace(queries)
        rng = np.random.default_rng(self.seed)
        state = {
            name: xp.asarray(rng.standard_normal(shape, dtype=np.float32), device=device(queries))
            for name, (_, shape) in self.layout(*table_shape(table)).items()
        }
        if progress:
            progress(1.0)
        return state

    def score(self, state: State, query: Array) -> Scores:
        return Scores((query @ state["directions"].T) @ state["rows"].T)

    def layout(self, units: int, width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        return {"directions": ("float32", (DIRECTIONS, width)), "rows": ("float32", (units, DIRECTIONS))}

    def bytes_per_query(self, units: int, width: int) -> int:
        return 4 * DIRECTIONS * (units + width)
