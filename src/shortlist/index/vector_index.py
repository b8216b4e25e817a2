"""The index: add vectors, fit, search, save and load."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from shortlist import _native
from shortlist.errors import UsageError
from shortlist.estimators import Estimator, LowRank, State
from shortlist.index import storage
from shortlist.index.row_formats import ROW_FORMATS
from shortlist.index.scorers import Scorer, scorer_of
from shortlist.index.vectors import checked, with_norm_one

FIT_QUERIES = 4096  # number of stored vectors that serve as queries where none are given
MOST_SCORES = 1 << 22  # number of scores in memory at once: 16 MiB
FEW_QUERIES = 4  # below this number, a loop over queries is faster than a matrix product
MOST_ROWS = (1 << 31) - 1
WIDEST = 1 << 16


class Matches(NamedTuple):
    """The best vectors of each query, best first; for a single query without the first axis.

    Attributes
    ----------
    ids : int64 [queries, k]
        Ids of the vectors, counted from 0 in the order of adding. Among equal scores the lowest id is first.
    scores : float32 [queries, k]
        Inner product, or cosine.
    """

    ids: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class _Fit:
    estimator: Estimator
    state: State
    score: Scorer


class Index:
    """An index that finds vectors by the largest inner product or cosine.

    A search estimates the score of every vector, shortlists a share `keep` of the best, and computes their
    exact scores from the stored vectors. Vectors that no `fit` covers are always scored exactly.

    Parameters
    ----------
    width : int
        Length of a vector.
    metric : {"inner_product", "cosine"}
        With cosine, vectors and queries are divided by their norms.
    rows : {"float32", "int8"}
        Storage format. Scores from 8-bit rows are those of the rounded vectors and queries.

    Examples
    --------
    >>> index = Index(width=384)
    >>> index.add(vectors)
    >>> index.fit(sample_of_queries)
    >>> ids, scores = index.search(queries, k=10, keep=0.01)
    """

    def __init__(
        self,
        width: int,
        *,
        metric: Literal["inner_product", "cosine"] = "inner_product",
        rows: Literal["float32", "int8"] = "float32",
    ):
        if not 1 <= width <= WIDEST:
            raise UsageError(f"the vectors of an index have 1 to {WIDEST} numbers, not {width}")
        if metric not in storage.METRICS:
            raise UsageError(f"metric is {' or '.join(storage.METRICS)}, not {metric}")
        if rows not in ROW_FORMATS:
            raise UsageError(f"rows are {' or '.join(ROW_FORMATS)}, not {rows}")
        self.width, self.metric, self.rows = width, metric, rows
        self._format = ROW_FORMATS[rows]
        # The table in the order of ids. After a fit, the first part holds the vectors that it covers.
        self._parts: list[_native.Rows] = []
        self._fit: _Fit | None = None

    def __repr__(self) -> str:
        return f"<Index of {len(self)} vectors of {self.width}: {self.metric}, {self.rows}>"

    def __len__(self) -> int:
        return sum(part.rows for part in self._parts)

    @property
    def fitted(self) -> int:
        """Number of vectors whose scores a search estimates; those of other vectors are exact."""
        return self._parts[0].rows if self._fit else 0

    @property
    def estimate_bytes(self) -> int:
        """Bytes of the estimator's copy of the vectors, which every search reads; 0 before `fit`."""
        return self._fit.score.nbytes if self._fit else 0

    def add(self, vectors: np.ndarray) -> None:
        """Append vectors [count, width], or one [width]; their ids start at `len(index)`.

        Raises
        ------
        UsageError
            The width differs, a number is not finite or above 2^22, or a vector is zero with metric cosine.
        """
        table = self._prepared(vectors, "vectors")
        if not len(table):
            return
        if len(self) + len(table) > MOST_ROWS:
            raise UsageError(f"an index holds at most {MOST_ROWS} vectors: use several")
        part = self._format.pack(table)
        # Parts are merged like the digits of a binary counter: few remain, and a vector is seldom copied.
        while len(self._parts) > bool(self._fit) and self._parts[-1].rows <= part.rows:
            part = self._format.join([self._parts.pop(), part])
        self._parts.append(part)

    def fit(self, queries: np.ndarray | None = None, estimator: Estimator | None = None) -> None:
        """Fit an estimator to all vectors of the index.

        Parameters
        ----------
        queries : array [samples, width], optional
            Examples of queries. They matter most where queries differ from the vectors. By default, some of
            the vectors are used.
        estimator : Estimator, optional
            By default `LowRank` with a rank of about an eighth of the width.

        Raises
        ------
        UsageError
            The index is empty, or the queries or the estimator do not fit it.
        """
        if not self._parts:
            raise UsageError("the index is empty: add vectors before fit")
        estimator = estimator or LowRank(rank=_default_rank(self.width))
        table = self._format.join(self._parts)
        if queries is None:
            step = -(-table.rows // FIT_QUERIES)
            examples = table.unpack(np.arange(0, table.rows, step, dtype=np.int32))
        else:
            examples = self._prepared(queries, "queries")
        state = estimator.fit(table, examples)
        self._fit = _Fit(estimator, state, scorer_of(estimator, state, (table.rows, self.width)))
        self._parts = [table]

    def search(self, queries: np.ndarray, k: int = 10, keep: float = 0.01) -> Matches:
        """The `k` best vectors of each query.

        Parameters
        ----------
        queries : array [queries, width] or [width]
        k : int
            1 to `len(index)`.
        keep : float
            Share of the vectors whose score is computed, at least `k` of them. With 1, nothing is estimated.

        Raises
        ------
        UsageError
            The index is empty, `k` or `keep` is out of range, or the queries do not fit the index.
        """
        if not self._parts:
            raise UsageError("the index is empty: add vectors before search")
        if not 1 <= k <= len(self):
            raise UsageError(f"k is 1 to {len(self)}, the number of vectors, not {k}")
        count = max(k, self._kept(keep))
        exact = self._fit is None or count == len(self)
        table = self._prepared(queries, "queries")
        found = [np.empty((0, k), np.int64)], [np.empty((0, k), np.float32)]
        step = max(1, MOST_SCORES // len(self))
        for start in range(0, len(table), step):
            block = table[start : start + step]
            estimates = self._estimate(block, exact)
            shortlists = _native.shortlist_each(estimates, k if exact else count)
            for answers, answer in zip(
                found, _native.compute_each(self._parts, block, shortlists, k), strict=True
            ):
                answers.append(answer)
        ids, scores = (np.concatenate(answers) for answers in found)
        return Matches(ids, scores) if np.ndim(queries) == 2 else Matches(ids[0], scores[0])

    def bytes_per_query(self, keep: float = 0.01) -> int:
        """Bytes that a single query reads: those of the estimator and those of the shortlist."""
        count = self._kept(keep)
        stored = sum(part.nbytes for part in self._parts)
        if self._fit is None or count == len(self):
            return stored
        return self.estimate_bytes + stored - self._parts[0].nbytes + count * self._parts[0].row_bytes

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index to one file; an existing one is replaced only when the new one is complete on disk.

        Raises
        ------
        storage.IndexFileError
            The file cannot be written.
        """
        layout = self._format.layout(0, self.width)
        vectors = {name: np.empty(shape, dtype) for name, (dtype, shape) in layout.items()}
        if self._parts:
            vectors = self._format.arrays(self._format.join(self._parts))
        contents = storage.Contents(
            self.width,
            len(self),
            self.metric,
            self.rows,
            vectors,
            self.fitted,
            self._fit and self._fit.estimator,
            self._fit and self._fit.state,
        )
        storage.write(contents, Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Index:
        """Read an index that `save` wrote. Nothing in the file is executed.

        Raises
        ------
        storage.IndexFileError
            The file is missing, no index, damaged, or from a newer version.
        """
        contents = storage.read(Path(path))
        index = cls(contents.width, metric=contents.metric, rows=contents.rows)  # pyright: ignore[reportArgumentType]
        for rows in (slice(0, contents.fitted), slice(contents.fitted, contents.count)):
            if rows.start < rows.stop:
                piece = {name: np.ascontiguousarray(array[rows]) for name, array in contents.vectors.items()}
                index._parts.append(index._format.restore(piece))
        if contents.estimator is not None and contents.state is not None:
            scorer = scorer_of(contents.estimator, contents.state, (contents.fitted, contents.width))
            index._fit = _Fit(contents.estimator, contents.state, scorer)
        return index

    def _estimate(self, queries: np.ndarray, exact: bool) -> np.ndarray:
        """Scores float32 [queries, vectors]: exact where no fit covers a vector, or for all."""
        covered = 0 if exact else 1
        scores = [self._fit.score(queries)] if self._fit and covered else []
        multiply = _native.Rows.matmul if len(queries) >= FEW_QUERIES else _native.estimate_each
        scores += [multiply(part, queries) for part in self._parts[covered:]]
        return scores[0] if len(scores) == 1 else np.concatenate(scores, axis=1)

    def _kept(self, keep: float) -> int:
        if not 0 < keep <= 1:
            raise UsageError(f"keep is a share of the vectors, above 0 and at most 1, not {keep}")
        return math.ceil(keep * len(self))

    def _prepared(self, values: np.ndarray, what: str) -> np.ndarray:
        table = checked(values, self.width, what)
        return with_norm_one(table, what) if self.metric == "cosine" else table


def _default_rank(width: int) -> int:
    """An eighth of the width, rounded down to whole groups of 32, which share a scale; at least one group."""
    return max(1, min(max(32, width // 8 // 32 * 32), width - 1))
