"""Subvectors of all rows as codes of one codebook, in coordinates that are trained with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from array_api_compat import array_namespace, device

from shortlist.errors import UsageError
from shortlist.estimators import codebook
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
from shortlist.estimators.directions import second_moment
from shortlist.estimators.residuals import length, residual_root, residuals

SAMPLE = 1 << 15  # subvectors that coordinates and clusters are trained on
ROUNDS = 3  # of clusters and coordinates in turn

# Legend: p parts of m inputs each, d <= m coordinates of a part, w a part of a row and q of a query.
# With C = L L^T the second moment of q, the error of w q is that of y = w L in every direction alike, so the
# clusters are those of y, at one size for all parts: y / s = w L / s. Of its m directions, V [m, d] keeps d,
# and a row's part is a centroid c of all (w L V / s): w q = c (s V^T L^-1 q).


@dataclass(frozen=True)
class SharedCodebook(Estimator):
    """Scores rows by the nearest of 256 centroids, the same for all parts of their inputs; gives the spread.

    `codebook` keeps centroids for each part, which in a table of few rows take as much as its codes. Here
    each part has a small matrix instead, which turns it to the coordinates of the common centroids; matrices
    and centroids are trained in turn, in the metric of the queries: low-rank representations of subvectors,
    clustered (LR2VQ, https://arxiv.org/abs/2211.11397). State:

    - `projection` float32 [parts, dimensions, part]: a query's coordinates in each part.
    - `centroids` float16 [256, dimensions] and `codes` uint8 [units, parts]: the value of a row is the sum
      over parts of lookups[part, code], where lookups = coordinates . centroids^T [parts, 256].
    - `residual` float32 [units]: spread_i = residual_i * |query|.

    Parameters
    ----------
    part : int
        Inputs to a code: 8 / part bits each.
    dimensions : int, optional
        Coordinates of a part, at most its inputs; default is all of them. Fewer make the clusters denser and
        lose what is left out.
    """

    name: ClassVar[str] = "shared_codebook"
    gives: ClassVar[Knowledge | None] = "confidence"
    part: int = 4
    dimensions: int | None = None

    def __post_init__(self) -> None:
        if self.part < 1:
            raise UsageError(f"shared_codebook needs parts of at least 1 input, not {self.part}")
        if self.dimensions is not None and not 1 <= self.dimensions <= self.part:
            raise UsageError(
                f"shared_codebook keeps 1 to {self.part} dimensions of parts of {self.part} inputs, "
                f"not {self.dimensions}"
            )

    def fit(self, table: Array | PackedTable, queries: Array, progress: Progress | None = None) -> State:
        xp = array_namespace(queries)
        units, width = table_shape(table)
        check_queries(queries, width)
        sample = table_rows(table, some_rows(units, max(1, SAMPLE // self._parts(width))), like=queries)
        basis, projection, centroids = self._train(self._cut(sample), queries)
        centroids = xp.astype(centroids, xp.float16)
        if progress:
            progress(0.3)
        root = residual_root(queries)
        parts = []
        for rows, chunk in table_chunks(table, like=queries):
            cut = self._cut(chunk) @ basis
            wide = xp.astype(centroids, xp.float32)[None, :, :]
            codes = xp.stack([codebook.nearest(cut[p, :, :], wide)[:, 0] for p in range(cut.shape[0])])
            decoded = xp.permute_dims(_decode(centroids, codes) @ projection, (1, 0, 2))
            errors = chunk - xp.reshape(decoded, (chunk.shape[0], -1))[:, :width]
            parts.append((codes.T, residuals(errors, root)))
            if progress:
                progress(0.3 + 0.7 * rows.stop / units)
        codes, residual = (xp.concat(part, axis=0) for part in zip(*parts, strict=True))
        return {"projection": projection, "centroids": centroids, "codes": codes, "residual": residual}

    def score(self, state: State, query: Array) -> Scores:
        xp = array_namespace(query)
        flat = xp.reshape(query, (-1, query.shape[-1]))
        coordinates = self._cut(flat) @ xp.matrix_transpose(state["projection"])  # [parts, queries, d]
        coordinates = xp.reshape(xp.permute_dims(coordinates, (1, 0, 2)), (flat.shape[0], -1))
        # A kernel adds up lookups; for many queries at once the rows are decoded, which gives the same sums.
        values = []
        for rows in row_slices(state["codes"].shape[0], coordinates.shape[-1]):
            decoded = _decode(state["centroids"], state["codes"][rows, :])
            values.append(coordinates @ xp.reshape(decoded, (decoded.shape[0], -1)).T)
        values = xp.reshape(xp.concat(values, axis=-1), (*query.shape[:-1], -1))
        return Scores(values, state["residual"], length(query))

    def layout(self, units: int, width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        parts, kept = self._parts(width), self._kept()
        return {
            "projection": ("float32", (parts, kept, self.part)),
            "centroids": ("float16", (codebook.CENTROIDS, kept)),
            "codes": ("uint8", (units, parts)),
            "residual": ("float32", (units,)),
        }

    def bytes_per_query(self, units: int, width: int) -> int:
        parts, kept = self._parts(width), self._kept()
        return 4 * parts * kept * self.part + 2 * codebook.CENTROIDS * kept + units * (parts + 4)

    def _parts(self, width: int) -> int:
        return -(-width // self.part)

    def _kept(self) -> int:
        return self.dimensions or self.part

    def _filled(self, vectors: Array) -> Array:
        """Vectors [count, width] with zeros where the last part has no inputs."""
        xp = array_namespace(vectors)
        count, width = vectors.shape
        missing = (count, self._parts(width) * self.part - width)
        return xp.concat([vectors, xp.zeros(missing, dtype=vectors.dtype, device=device(vectors))], axis=1)

    def _cut(self, vectors: Array) -> Array:
        """Vectors [count, width] as [parts, count, part]."""
        xp = array_namespace(vectors)
        filled = self._filled(vectors)
        return xp.permute_dims(xp.reshape(filled, (filled.shape[0], -1, self.part)), (1, 0, 2))

    def _train(self, sample: Array, queries: Array) -> tuple[Array, Array, Array]:
        """Basis of the rows [parts, part, d], projection of the queries [parts, d, part], and centroids.

        For given clusters the best V of a part is that of an orthogonal Procrustes problem, from the singular
        vectors of Y^T D, D the centroids of its rows.
        """
        xp = array_namespace(sample)
        moment = second_moment(self._filled(queries))
        blocks = [moment[i : i + self.part, i : i + self.part] for i in range(0, moment.shape[0], self.part)]
        root = xp.astype(xp.linalg.cholesky(xp.stack(blocks)), xp.float32)
        white = sample @ root
        size = xp.sqrt(xp.mean(white * white, axis=(1, 2), keepdims=True))
        size = xp.where(size > 0, size, xp.ones_like(size))
        white = white / size
        _, vectors = xp.linalg.eigh(xp.matrix_transpose(white) @ white)
        turn = xp.flip(vectors, axis=2)[:, :, : self._kept()]
        centroids: Array = None
        for step in range(ROUNDS + 1):
            coordinates = xp.reshape(white @ turn, (-1, turn.shape[2]))
            centroids = codebook.cluster(coordinates, turn.shape[2], centroids)
            if step < ROUNDS:
                codes = codebook.nearest(coordinates, centroids)
                decoded = xp.reshape(codebook.lookup(centroids, codes), (*white.shape[:2], -1))
                left, _, right = xp.linalg.svd(xp.matrix_transpose(white) @ decoded, full_matrices=False)
                turn = left @ right
        projection = xp.matrix_transpose(turn) @ xp.linalg.inv(root) * size
        return root @ turn / size, projection, centroids[0, :, :]


def _decode(centroids: Array, codes: Array) -> Array:
    """Coordinates, float32 [..., d], of codes."""
    xp = array_namespace(codes)
    flat = codebook.lookup(centroids[None, :, :], xp.reshape(codes, (-1, 1)))
    return xp.reshape(flat, (*codes.shape, -1))
