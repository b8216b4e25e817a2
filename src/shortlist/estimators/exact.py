"""All rows as they are: the oracle that other estimators are measured against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from array_api_compat import array_namespace

from shortlist.estimators.base import (
    Array,
    Estimator,
    PackedTable,
    Progress,
    Scores,
    State,
    row_slices,
    table_chunks,
    table_shape,
)


@dataclass(frozen=True)
class Exact(Estimator):
    """Scores every row by its exact product with the query, and saves nothing.

    State: `rows` float32 [units, width].
    """

    name: ClassVar[str] = "exact"
    from_table: ClassVar[bool] = True

    def fit(self, table: Array | PackedTable, queries: Array, progress: Progress | None = None) -> State:
        xp = array_namespace(queries)
        units, _ = table_shape(table)
        chunks = []
        for rows, chunk in table_chunks(table, like=queries):
            chunks.append(chunk)
            if progress:
                progress(rows.stop / units)
        return {"rows": xp.concat(chunks, axis=0)}

    def score(self, state: State, query: Array) -> Scores:
        xp = array_namespace(query)
        rows = state["rows"]
        return Scores(xp.concat([query @ rows[part, :].T for part in row_slices(*rows.shape)], axis=-1))

    def layout(self, units: int, width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        return {"rows": ("float32", (units, width))}

    def bytes_per_query(self, units: int, width: int) -> int:
        return 4 * units * width
