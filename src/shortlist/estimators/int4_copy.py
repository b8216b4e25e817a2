"""A copy of the rows in 4 bits, as the native runtime packs it, and how long the errors of its rows are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from array_api_compat import array_namespace, device

from shortlist.checkpoints.packing import pack_floats, unpacked
from shortlist.estimators.base import (
    Array,
    Estimator,
    Knowledge,
    PackedTable,
    Progress,
    Scores,
    State,
    table_chunks,
    table_shape,
)
from shortlist.estimators.residuals import length

GROUP = 32  # inputs of a row that share a scale and a minimum


@dataclass(frozen=True)
class Int4Copy(Estimator):
    """Scores rows by a copy of them in 4 bits; gives the confidence of its error.

    An error e of a row moves its score by e . x, whose deviation is |e| |x| / sqrt(width) for a query x that
    knows nothing of e. State: `copy` float32 [units, width], the rounded rows; `residual` float32 [units],
    the margins: times |query| they are one deviation. Nothing of it depends on queries, so a recipe leaves it
    out, and the native runtime keeps the copy in its 4 bits.
    """

    name: ClassVar[str] = "int4_copy"
    gives: ClassVar[Knowledge | None] = "confidence"
    from_table: ClassVar[bool] = True

    def fit(self, table: Array | PackedTable, queries: Array, progress: Progress | None = None) -> State:
        xp = array_namespace(queries)
        units, _ = table_shape(table)
        copies, residuals = [], []
        for rows, chunk in table_chunks(table, like=queries):
            exact = np.asarray(chunk)
            copies.append(unpacked(pack_floats(exact, "q4")))
            residuals.append(residual(exact, copies[-1]))
            if progress:
                progress(rows.stop / units)
        copy, lengths = np.concatenate(copies), np.concatenate(residuals)
        return {
            "copy": xp.asarray(copy, device=device(queries)),
            "residual": xp.asarray(lengths, device=device(queries)),
        }

    def score(self, state: State, query: Array) -> Scores:
        return Scores(query @ state["copy"].T, state["residual"], length(query))

    def layout(self, units: int, width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        return {"copy": ("float32", (units, width)), "residual": ("float32", (units,))}

    def bytes_per_query(self, units: int, width: int) -> int:
        groups = -(-width // GROUP)
        return units * (groups * (GROUP // 2 + 4) + 4)


def residual(rows: np.ndarray, copy: np.ndarray) -> np.ndarray:
    """What times the length of a query is one deviation of each row's error, float32 [units]."""
    return (rows.shape[1] ** -0.5 * np.linalg.norm(rows - copy, axis=1)).astype(np.float32)
