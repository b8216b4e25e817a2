"""Very sparse random projection: a sketch of the rows that needs no training."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import ClassVar

import numpy as np
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
from shortlist.estimators.int8_codes import from_int8, int8_bytes, int8_layout, to_int8
from shortlist.estimators.residuals import length

# Each of the `rank` numbers of a sketch is a sum of `nonzeros` inputs with random signs. Every input is in
# equally many of them, or in one more, and divided by the root of that number: so the product of two sketches
# holds the product of every input with itself exactly, however large that input is, and that of two different
# ones with either sign. The latter is the error, |row| |query| / sqrt(rank) at most. (Inputs that are drawn
# anew for each sum leave the few large inputs of hidden states, which decide the scores, to chance.)


@dataclass(frozen=True)
class Sketch(Estimator):
    """Scores rows by random projections of row and query; gives the spread of its error.

    Signed sums of few inputs do as well as dense Gaussian projections (Li et al., KDD 2006; FastRP,
    https://arxiv.org/abs/1908.11239), when every input is in equally many of them. State:

    - `places` int16 and `weights` float16 [rank, nonzeros]: the inputs of each sum.
    - `codes` int8 [units, rank] and `scales` float16 [units, groups]: the rows' sketches.
    - `norms` float32 [units]: spread_i = norm_i * |query|, from the lengths of the rows.

    Parameters
    ----------
    rank : int
        Numbers of a sketch.
    nonzeros : int, optional
        Inputs in each sum; default is the square root of the width.
    seed : int
        Of the draws.
    """

    name: ClassVar[str] = "sketch"
    gives: ClassVar[Knowledge | None] = "confidence"
    rank: int = 128
    nonzeros: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UsageError(f"sketch keeps at least 1 number, not {self.rank}")
        if self.nonzeros is not None and self.nonzeros < 1:
            raise UsageError(f"sketch adds up at least 1 input, not {self.nonzeros}")

    def fit(self, table: Array | PackedTable, queries: Array, progress: Progress | None = None) -> State:
        xp = array_namespace(queries)
        units, width = table_shape(table)
        check_queries(queries, width)
        count = self._count(width)
        places, weights = (xp.asarray(a, device=device(queries)) for a in self._draw(width, count))
        parts = []
        for rows, chunk in table_chunks(table, like=queries):
            norms = xp.sqrt(xp.sum(chunk * chunk, axis=1) / self.rank)
            parts.append((*to_int8(sketch(chunk, places, weights)), norms))
            if progress:
                progress(rows.stop / units)
        codes, scales, norms = (xp.concat(part, axis=0) for part in zip(*parts, strict=True))
        return {"places": places, "weights": weights, "codes": codes, "scales": scales, "norms": norms}

    def score(self, state: State, query: Array) -> Scores:
        xp = array_namespace(query)
        sketched = sketch(query, state["places"], state["weights"])
        values = [
            sketched @ from_int8(state["codes"][rows, :], state["scales"][rows, :]).T
            for rows in row_slices(state["codes"].shape[0], self.rank)
        ]
        return Scores(xp.concat(values, axis=-1), state["norms"], length(query))

    def layout(self, units: int, width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        codes, scales = int8_layout(units, self.rank)
        shape = (self.rank, self._count(width))
        return {
            "places": ("int16", shape),
            "weights": ("float16", shape),
            "codes": codes,
            "scales": scales,
            "norms": ("float32", (units,)),
        }

    def bytes_per_query(self, units: int, width: int) -> int:
        return 4 * self.rank * self._count(width) + int8_bytes(units, self.rank) + 4 * units

    def _draw(self, width: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Places and weights of the sums; each takes inputs that the fewest so far have taken."""
        rng = np.random.default_rng(self.seed)
        used = np.zeros(width, dtype=np.int64)
        places = np.empty((self.rank, count), dtype=np.int16)
        for row in places:
            row[:] = np.argsort(used + rng.random(width))[:count]
            used[row] += 1
        signs = rng.choice(np.array([-1.0, 1.0]), (self.rank, count))
        return places, (signs / np.sqrt(used[places])).astype(np.float16)

    def _count(self, width: int) -> int:
        if width > 2**15:
            raise UsageError(f"sketch takes a width up to {2**15}, not {width}")
        return isqrt(width) if self.nonzeros is None else min(self.nonzeros, width)


def sketch(vectors: Array, places: Array, weights: Array) -> Array:
    """Weighted sums of a few inputs: [..., width] -> [..., rank]."""
    xp = array_namespace(vectors)
    total = xp.zeros((*vectors.shape[:-1], places.shape[0]), dtype=vectors.dtype, device=device(vectors))
    for place, weight in zip(xp.unstack(places, axis=1), xp.unstack(weights, axis=1), strict=True):
        taken = xp.take(vectors, xp.astype(place, xp.int64), axis=-1)
        total = total + taken * xp.astype(weight, vectors.dtype)
    return total
