"""Ranks that are computed from a table and its queries instead of typed in."""

from __future__ import annotations

from array_api_compat import array_namespace

from shortlist.errors import UsageError
from shortlist.estimators.base import Array, PackedTable
from shortlist.estimators.directions import second_moment
from shortlist.estimators.low_rank import table_gram


def score_variances(table: Array | PackedTable, queries: Array) -> Array:
    """What each direction of a data-aware low rank adds to the variance of all scores, the largest first.

    Parameters
    ----------
    table, queries
        As `Estimator.fit` takes them.

    Returns
    -------
    float64 [width]
        Eigenvalues of C^1/2 W^T W C^1/2, for the table W and the queries' second moment C.
    """
    xp = array_namespace(queries)
    root = xp.linalg.cholesky(second_moment(queries))
    values = xp.linalg.eigvalsh(root.T @ table_gram(table, queries) @ root)
    return xp.flip(xp.clip(values, min=0.0))


def energy_rank(variances: Array, share: float = 0.8) -> int:
    """Fewest leading directions that hold a share of all variance."""
    xp = array_namespace(variances)
    if not 0 < share <= 1:
        raise UsageError(f"a rank holds a share of the variance above 0 and up to 1, not {share}")
    held = xp.cumulative_sum(variances)
    return min(int(xp.sum(xp.astype(held < share * held[-1], xp.int64))) + 1, variances.shape[0])


def relevance_rank(variances: Array, threshold: float = 1.0) -> int:
    """Directions whose variance is at least `threshold` times the mean of all.

    The rule of automatic relevance determination, an axis is kept where what it carries stands out, with
    the mean as the yardstick of each layer's own (ARD-VAE, https://arxiv.org/abs/2501.10901).
    """
    xp = array_namespace(variances)
    return max(1, int(xp.sum(xp.astype(variances >= threshold * xp.mean(variances), xp.int64))))


def intrinsic_dimension(queries: Array) -> float:
    """Dimension of the surface that the queries lie on, from the distances to two nearest neighbours.

    The ratio of both distances follows a power law whose exponent is the dimension (TwoNN, Facco et al.,
    Scientific Reports 2017), here by maximum likelihood. Queries that are equal to another are left out.

    Parameters
    ----------
    queries : array [samples, width]
        At least 3 different ones; time and memory grow with samples^2.
    """
    xp = array_namespace(queries)
    points = xp.astype(queries, xp.float64)
    lengths = xp.sum(points * points, axis=1)
    squares = lengths[:, None] + lengths[None, :] - 2 * points @ points.T
    nearest = xp.sort(xp.clip(squares, min=0.0), axis=1)[:, 1:3]  # the first is the point itself
    nearest = nearest[nearest[:, 0] > 1e-9 * xp.mean(lengths), :]
    logs = 0.5 * xp.log(nearest[:, 1] / nearest[:, 0])
    if nearest.shape[0] < 3 or not xp.sum(logs) > 0:
        raise UsageError("an intrinsic dimension needs at least 3 queries that differ")
    return float(nearest.shape[0] / xp.sum(logs))
