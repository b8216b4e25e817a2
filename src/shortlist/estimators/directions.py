"""Which directions a low-rank estimate keeps: four ways to weigh the queries and the table."""

from __future__ import annotations

from typing import Literal, get_args

from array_api_compat import array_namespace, device

from shortlist.errors import UsageError
from shortlist.estimators.base import Array

Metric = Literal["queries", "identity", "pca", "leanvec"]
METRICS = get_args(Metric)
RIDGE = 1e-2  # share of the mean variance that every direction has at least, seen in the queries or not
BLENDS = 11  # weights of the table that leanvec tries, 0 to 1

# Legend: W [units, width] the table, Q [samples, width] the queries, C = Q^T Q / samples + ridge, G = W^T W.
# Every metric gives a basis B and the projection P = B^-1, so that W q = (W B) (P q), with the directions to
# keep first. The coordinates P q that are cut off have variance 1 and are uncorrelated (but for the plain
# SVD), so that a row errs by the norm of what it loses.
#
#   queries   An estimate W' errs, on average over the queries, by the squared Frobenius norm of
#             (W - W') C^1/2; the best W' of rank r is the truncated SVD of W C^1/2. With any root R of C
#             (R R^T = C) and the eigenvectors V of R^T G R, sorted by eigenvalue, B = R V and P = V^T R^-1.
#   identity  The same with C = 1: the plain SVD of the table.
#   pca       The eigenvectors of C alone, whatever the table.
#   leanvec   One orthonormal V for rows and queries, the eigenvectors of a blend of C and G (each with trace
#             1); the blend is the one whose error, the trace of V_c^T C V_c V_c^T G V_c over the directions
#             V_c that are cut off, is least (LeanVec, eigenvector search, https://arxiv.org/abs/2312.16335).


def directions(metric: Metric, gram: Array, queries: Array, rank: int) -> tuple[Array, Array]:
    """Basis of the rows and projection of the queries, the directions to keep first.

    Parameters
    ----------
    metric : {"queries", "identity", "pca", "leanvec"}
    gram : float64 [width, width]
        W^T W of the table.
    queries : array [samples, width]
    rank : int
        Directions that will be kept.

    Returns
    -------
    basis, projection : float64 [width, width]
        Coordinates of a row w are `w @ basis`, those of a query q `projection @ q`.

    Raises
    ------
    UsageError
        The queries are all zero or not finite.
    """
    xp = array_namespace(gram)
    if metric == "identity":
        _, vectors = _sorted_eigh(gram)
        return vectors, vectors.T
    covariance = second_moment(queries)
    if metric == "leanvec":
        vectors = _leanvec(covariance, gram, rank)
        cut = vectors[:, rank:]
        _, turn = _sorted_eigh(cut.T @ covariance @ cut)
        vectors = xp.concat([vectors[:, :rank], cut @ turn], axis=1)
        deviations = xp.sqrt(xp.sum(vectors * (covariance @ vectors), axis=0))
        return vectors * deviations, (vectors / deviations).T
    variances, vectors = _sorted_eigh(covariance)
    deviations = xp.sqrt(variances)
    root, inverse = vectors * deviations, (vectors / deviations).T
    if metric == "pca":
        return root, inverse
    _, turn = _sorted_eigh(root.T @ gram @ root)
    return root @ turn, turn.T @ inverse


def second_moment(queries: Array) -> Array:
    """C, float64 [width, width]: the mean of q q^T, and a ridge for directions that were not seen.

    Raises
    ------
    UsageError
        The queries are all zero or not finite.
    """
    xp = array_namespace(queries)
    queries = xp.astype(queries, xp.float64)
    samples, width = queries.shape
    covariance = queries.T @ queries / samples
    floor = RIDGE * xp.linalg.trace(covariance) / width
    if not (floor > 0 and xp.isfinite(floor)):
        raise UsageError("an estimator cannot be fitted to queries that are all zero or not finite")
    return covariance + floor * xp.eye(width, dtype=xp.float64, device=device(queries))


def _leanvec(covariance: Array, gram: Array, rank: int) -> Array:
    xp = array_namespace(gram)
    best, best_error = None, float("inf")
    trace = xp.linalg.trace(gram)
    table = gram / trace if trace > 0 else gram  # a table of zeros
    for i in range(BLENDS):
        share = i / (BLENDS - 1)
        blend = (1 - share) * covariance / xp.linalg.trace(covariance) + share * table
        _, vectors = _sorted_eigh(blend)
        cut = vectors[:, rank:]
        error = float(xp.sum((cut.T @ covariance @ cut) * (cut.T @ gram @ cut)))
        if best is None or error < best_error:
            best, best_error = vectors, error
    return best


def _sorted_eigh(matrix: Array) -> tuple[Array, Array]:
    """Eigenvalues, largest first, and eigenvectors of a symmetric matrix."""
    xp = array_namespace(matrix)
    values, vectors = xp.linalg.eigh(matrix)
    return xp.flip(values), xp.flip(vectors, axis=1)
