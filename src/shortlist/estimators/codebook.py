"""Product quantization: a row is a list of codes, and its score a sum of table lookups."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
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
    some_rows,
    table_chunks,
    table_rows,
    table_shape,
)
from shortlist.estimators.directions import directions
from shortlist.estimators.low_rank import table_gram
from shortlist.estimators.residuals import length, residual_root, residuals

CENTROIDS = 256  # of each part: a code is one byte
SAMPLE_ROWS = 8192  # rows that the clusters are trained on
KMEANS_STEPS = 6
ROUNDS = 4  # of clusters and projection in turn


@dataclass(frozen=True)
class Codebook(Estimator):
    """Scores rows by the nearest of 256 centroids for each `part` of their inputs; gives the spread.

    With a `rank`, the rows are first projected to as many dimensions, and projection and clusters are trained
    together: the clusters on the projected rows, then the projection on what the clusters can say. State:

    - `projection` float32 [rank, width], only with a rank.
    - `centroids` float16 [parts, 256, part] and `codes` uint8 [units, parts]: the value of a row is the sum
      over parts of lookups[part, code], where lookups = centroids . query [parts, 256].
    - `residual` float32 [units]: spread_i = residual_i * |query|.

    Product quantization is of Jegou et al. (PAMI 2011), the alternation with a rotation of optimized product
    quantization (Ge et al., CVPR 2013), fewer dimensions for the same codes of LR2VQ
    (https://arxiv.org/abs/2211.11397).

    Parameters
    ----------
    part : int
        Inputs or dimensions to a code, which divide the width or the rank: 8 / part bits each.
    rank : int, optional
        Dimensions of the projection; default is none, plain product quantization.
    """

    name: ClassVar[str] = "codebook"
    gives: ClassVar[Knowledge | None] = "confidence"
    part: int = 4
    rank: int | None = None

    def __post_init__(self) -> None:
        if self.part < 1:
            raise UsageError(f"codebook needs parts of at least 1 input, not {self.part}")
        if self.rank is not None and (self.rank < self.part or self.rank % self.part):
            raise UsageError(f"codebook of rank {self.rank} cannot be cut into parts of {self.part}")

    def fit(self, table: Array | PackedTable, queries: Array, progress: Progress | None = None) -> State:
        xp = array_namespace(queries)
        units, width = table_shape(table)
        self._parts(width)
        check_queries(queries, width)
        report = progress or (lambda share: None)
        sample = table_rows(table, some_rows(units, SAMPLE_ROWS), like=queries)
        if self.rank is None:
            basis = projection = None
            centroids = cluster(sample, self.part)
        else:
            gram = table_gram(table, queries, lambda share: report(0.4 * share))
            basis, projection, centroids = self._train(sample, gram, queries)
        centroids = xp.astype(centroids, xp.float16)
        report(0.5)

        root = residual_root(queries)
        parts = []
        for rows, chunk in table_chunks(table, like=queries):
            codes = nearest(chunk if basis is None else chunk @ basis, xp.astype(centroids, xp.float32))
            decoded = lookup(centroids, codes)
            errors = chunk - (decoded if projection is None else decoded @ projection)
            parts.append((codes, residuals(errors, root)))
            report(0.5 + 0.5 * rows.stop / units)
        codes, residual = (xp.concat(part, axis=0) for part in zip(*parts, strict=True))
        state = {"centroids": centroids, "codes": codes, "residual": residual}
        return state if projection is None else {"projection": projection, **state}

    def score(self, state: State, query: Array) -> Scores:
        xp = array_namespace(query)
        coordinates = query if self.rank is None else query @ state["projection"].T
        # A kernel adds up lookups; for many queries at once the rows are decoded, which gives the same sums.
        values = [
            coordinates @ lookup(state["centroids"], state["codes"][rows, :]).T
            for rows in row_slices(state["codes"].shape[0], coordinates.shape[-1])
        ]
        return Scores(xp.concat(values, axis=-1), state["residual"], length(query))

    def layout(self, units: int, width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        parts = self._parts(width)
        layout = {
            "centroids": ("float16", (parts, CENTROIDS, self.part)),
            "codes": ("uint8", (units, parts)),
            "residual": ("float32", (units,)),
        }
        return layout if self.rank is None else {"projection": ("float32", (self.rank, width)), **layout}

    def bytes_per_query(self, units: int, width: int) -> int:
        parts = self._parts(width)
        return 4 * width * (self.rank or 0) + 2 * parts * CENTROIDS * self.part + units * (parts + 4)

    def _parts(self, width: int) -> int:
        if self.rank is None and width % self.part:
            raise UsageError(f"codebook cannot cut a width of {width} into parts of {self.part}")
        if self.rank is not None and self.rank > width:
            raise UsageError(f"codebook of rank {self.rank} needs a table at least as wide, not {width}")
        return (self.rank or width) // self.part

    def _train(self, sample: Array, gram: Array, queries: Array) -> tuple[Array, Array, Array]:
        """Basis of the rows [width, rank], projection of the queries [rank, width], and centroids.

        In coordinates where the queries are white, y = w R, an estimate errs by |y - d V^T| for the decoded
        coordinates d of y V and orthonormal columns V [width, rank]. For given clusters the best V is that of
        an orthogonal Procrustes problem, from the singular vectors of Y^T D.
        """
        xp = array_namespace(sample)
        root, inverse = directions("queries", gram, queries, int(self.rank or 0))  # largest variances first
        root, inverse = (xp.astype(part, xp.float32) for part in (root, inverse))
        white = sample @ root
        columns = balanced(xp.mean(white * white, axis=0)[: self.rank], self.part)
        turn = xp.eye(white.shape[1], dtype=xp.float32, device=device(sample))[:, columns]
        centroids = None
        for _ in range(ROUNDS):
            centroids = cluster(white @ turn, self.part, centroids)
            decoded = lookup(centroids, nearest(white @ turn, centroids))
            left, _, right = xp.linalg.svd(white.T @ decoded, full_matrices=False)
            turn = left @ right
        centroids = cluster(white @ turn, self.part, centroids)
        return root @ turn, turn.T @ inverse, centroids


def cluster(rows: Array, part: int, centroids: Array | None = None) -> Array:
    """Centroids [parts, 256, part] of rows [count, width] by k-means, from those given or from rows."""
    xp = array_namespace(rows)
    cut = xp.reshape(rows, (rows.shape[0], -1, part))
    if centroids is None:  # evenly spaced rows
        first = np.linspace(0, rows.shape[0], CENTROIDS, endpoint=False).astype(np.int64)
        centroids = xp.permute_dims(cut[xp.asarray(first, device=device(rows)), :, :], (1, 0, 2))
    for _ in range(KMEANS_STEPS):
        centroids = _recentre(cut, nearest(rows, centroids), centroids)
    return centroids


def nearest(rows: Array, centroids: Array) -> Array:
    """Code, uint8 [count, parts], of the centroid nearest to each part of the rows."""
    xp = array_namespace(rows)
    parts, _, part = centroids.shape
    codes = []
    for p in range(parts):
        gains = rows[:, p * part : (p + 1) * part] @ centroids[p].T
        gains = gains - 0.5 * xp.sum(centroids[p] * centroids[p], axis=1)
        codes.append(xp.astype(xp.argmax(gains, axis=1), xp.uint8))
    return xp.stack(codes, axis=1)


def lookup(centroids: Array, codes: Array) -> Array:
    """Decoded rows, float32 [count, parts * part]."""
    xp = array_namespace(codes)
    wide = xp.astype(centroids, xp.float32)
    decoded = [xp.take(wide[p], xp.astype(codes[:, p], xp.int64), axis=0) for p in range(wide.shape[0])]
    return xp.concat(decoded, axis=1)


def balanced(variances: Array, part: int) -> Array:
    """Order of the dimensions in which all parts have about the same product of variances.

    Each goes to the part with the least product so far that is not full; for normal coordinates equal
    products err least (Ge et al., CVPR 2013).
    """
    xp = array_namespace(variances)
    sizes = [max(float(variance), 1e-30) for variance in variances]
    parts: list[list[int]] = [[] for _ in range(len(sizes) // part)]
    products = [0.0] * len(parts)  # logarithms, with the least variance as the unit
    for dimension in sorted(range(len(sizes)), key=lambda d: -sizes[d]):
        open_parts = [p for p in range(len(parts)) if len(parts[p]) < part]
        chosen = min(open_parts, key=products.__getitem__)
        parts[chosen].append(dimension)
        products[chosen] += log(sizes[dimension] / min(sizes))
    return xp.asarray([d for members in parts for d in members], device=device(variances))


def _recentre(cut: Array, codes: Array, centroids: Array) -> Array:
    """Mean of the points [count, parts, part] of each code; a centroid without points stays."""
    xp = array_namespace(cut)
    every = xp.arange(centroids.shape[1], device=device(cut))
    moved = []
    for p in range(centroids.shape[0]):
        member = xp.astype(xp.astype(codes[:, p], xp.int64) == every[:, None], xp.float32)
        counts = xp.sum(member, axis=1)[:, None]
        means = member @ cut[:, p, :] / xp.clip(counts, min=1.0)
        moved.append(xp.where(counts > 0, means, centroids[p, :, :]))
    return xp.stack(moved)
