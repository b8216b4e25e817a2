"""Scorers of the fitted vectors for many queries: an estimator's native twin, or the estimator itself."""

from typing import Protocol

import numpy as np

from shortlist import _native
from shortlist.estimators import Estimator, LowRank, State


class Scorer(Protocol):
    @property
    def nbytes(self) -> int:
        """Bytes that a single query reads."""
        ...

    def __call__(self, queries: np.ndarray) -> np.ndarray:
        """Estimates float32 [queries, units] for queries float32 [queries, width]."""
        ...


class LowRankScorer:
    """The values of `LowRank.score`, for all queries at once, with query codes rounded to 8 bits."""

    def __init__(self, state: State):
        codes = np.ascontiguousarray(state["codes"], np.int8)
        scales = np.ascontiguousarray(state["scales"], np.float16).view(np.uint16)
        self._projection = np.ascontiguousarray(state["projection"][: codes.shape[1]].T, np.float32)
        self._codes = _native.Rows.pack_int8(codes, scales, tiled=True)

    @property
    def nbytes(self) -> int:
        return self._projection.nbytes + self._codes.nbytes

    def __call__(self, queries: np.ndarray) -> np.ndarray:
        return _native.estimate_each(self._codes, queries @ self._projection)


class EstimatorScorer:
    """Any estimator, one query at a time: correct, but slow."""

    def __init__(self, estimator: Estimator, state: State, shape: tuple[int, int]):
        self._estimator, self._state = estimator, state
        self.nbytes = estimator.bytes_per_query(*shape)

    def __call__(self, queries: np.ndarray) -> np.ndarray:
        values = [self._estimator.score(self._state, query).values for query in queries]
        return np.stack(values).astype(np.float32, copy=False)


def scorer_of(estimator: Estimator, state: State, shape: tuple[int, int]) -> Scorer:
    """The fastest scorer for a state that was fitted to a table of this shape [units, width]."""
    if isinstance(estimator, LowRank):
        return LowRankScorer(state)
    return EstimatorScorer(estimator, state, shape)
