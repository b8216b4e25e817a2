"""The size of a layer's own input: input channels that carry little are skipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from array_api_compat import array_namespace

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


@dataclass(frozen=True)
class Magnitude(Estimator):
    """Scores input channel i of a linear layer by |x_i|, and by the length of its weights.

    The units are the layer's inputs, so the table is the layer's matrix transposed, [inputs, outputs], and a
    query is the input itself [..., inputs]: the layer is the sum of the rows times the query. State: `norms`
    float32 [inputs] where they count, else nothing. Nothing is fitted to queries.

    Parameters
    ----------
    weighted : bool
        Multiply by the norm of the channel's weights, which bounds what it adds to the outputs
        (WINA, https://arxiv.org/abs/2505.19427); without it, TEAL (https://arxiv.org/abs/2408.14690).
    """

    name: ClassVar[str] = "magnitude"
    weighted: bool = True

    def fit(self, table: Array | PackedTable, queries: Array, progress: Progress | None = None) -> State:
        xp = array_namespace(queries)
        units, _ = table_shape(table)
        check_queries(queries, units)
        norms = []
        for rows, chunk in table_chunks(table, like=queries):
            norms.append(xp.sqrt(xp.sum(chunk * chunk, axis=1)))
            if progress:
                progress(rows.stop / units)
        return {"norms": xp.concat(norms)} if self.weighted else {}

    def estimate(self, state: State, query: Array) -> Estimate:
        xp = array_namespace(query)
        return Estimate(xp.abs(query) * state["norms"] if self.weighted else xp.abs(query))

    def layout(self, units: int, width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        return {"norms": ("float32", (units,))} if self.weighted else {}

    def bytes_per_query(self, units: int, width: int) -> int:
        return 4 * units if self.weighted else 0
