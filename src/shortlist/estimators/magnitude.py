"""The size of a layer's own input: input channels that carry little are skipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from array_api_compat import array_namespace

from shortlist.errors import UsageError
from shortlist.estimators.base import (
    Array,
    Estimator,
    PackedTable,
    Progress,
    Scores,
    State,
    check_queries,
    table_chunks,
    table_rows,
    table_shape,
)
from shortlist.estimators.directions import directions


@dataclass(frozen=True)
class Magnitude(Estimator):
    """Scores input channel i of a linear layer by |x_i|, and by the length of its weights.

    The units are the layer's inputs, so the table is the layer's matrix transposed, [inputs, outputs], and a
    query is the input itself [..., inputs]: the layer is the sum of the rows times the query. State:

    - `norms` float32 [inputs], with `weighted`.
    - `inner` float16 [rest, inputs] and `outer` float16 [outputs, rest], with `rest`: outer @ inner is the
      matrix of this rank that errs least on the queries.

    Parameters
    ----------
    weighted : bool
        Multiply by the norm of the channel's weights, which bounds what it adds to the outputs
        (WINA, https://arxiv.org/abs/2505.19427); without it, TEAL (https://arxiv.org/abs/2408.14690).
    rest : int
        Rank of the product that the channels off the shortlist go through, y = W[:, S] x[S] + outer @ inner
        x[not S] (R-Sparse, https://arxiv.org/abs/2504.19449); 0 leaves them out.
    """

    name: ClassVar[str] = "magnitude"
    weighted: bool = True
    rest: int = 0

    def __post_init__(self) -> None:
        if self.rest < 0:
            raise UsageError(f"the rank of magnitude's rest is 0 or more, not {self.rest}")

    def fit(self, table: Array | PackedTable, queries: Array, progress: Progress | None = None) -> State:
        xp = array_namespace(queries)
        units, width = table_shape(table)
        check_queries(queries, units)
        self._check_rest(units, width)
        report = progress or (lambda share: None)
        state = {}
        if self.weighted:
            norms = []
            for rows, chunk in table_chunks(table, like=queries):
                norms.append(xp.sqrt(xp.sum(chunk * chunk, axis=1)))
                report(rows.stop / units / 2)
            state["norms"] = xp.concat(norms)
        if self.rest:
            weights = table_rows(table, np.arange(units), queries)  # a layer's matrix fits into memory
            wide = xp.astype(weights, xp.float64)
            basis, projection = directions("queries", wide @ wide.T, queries, self.rest)
            state["inner"] = xp.astype(projection[: self.rest, :], xp.float16)
            state["outer"] = xp.astype(wide.T @ basis[:, : self.rest], xp.float16)
        report(1.0)
        return state

    def score(self, state: State, query: Array) -> Scores:
        xp = array_namespace(query)
        return Scores(xp.abs(query) * state["norms"] if self.weighted else xp.abs(query))

    def layout(self, units: int, width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        self._check_rest(units, width)
        layout = {}
        if self.weighted:
            layout["norms"] = ("float32", (units,))
        if self.rest:
            layout["inner"] = ("float16", (self.rest, units))
            layout["outer"] = ("float16", (width, self.rest))
        return layout

    def bytes_per_query(self, units: int, width: int) -> int:
        return (4 * units if self.weighted else 0) + 2 * self.rest * (units + width)

    def _check_rest(self, units: int, width: int) -> None:
        if self.rest >= min(units, width):
            raise UsageError(
                f"a rest of rank {self.rest} saves nothing on a matrix of {units} x {width}: lower it"
            )
