"""How far scores are off whose rows are known with an error: what that error weighs on real queries."""

from __future__ import annotations

from array_api_compat import array_namespace

from shortlist.estimators.base import Array
from shortlist.estimators.directions import second_moment

# A row that is known with the error e errs by e.q on a query q, by a mean square of e^T C e over the queries,
# C = E[q q^T]. With a root R of C / trace(C), that is (|e R| |q|)^2 for a query of the usual length |q|.


def residual_root(queries: Array) -> Array:
    """R, float32 [width, width], of queries [samples, width]."""
    xp = array_namespace(queries)
    covariance = second_moment(queries)
    root = xp.linalg.cholesky(covariance / xp.linalg.trace(covariance))
    return xp.astype(root, xp.float32)


def residuals(errors: Array, root: Array) -> Array:
    """One number for each row's error: |e R|, float32 [units], for `errors` [units, width]."""
    xp = array_namespace(errors)
    weighed = errors @ root
    return xp.sqrt(xp.sum(weighed * weighed, axis=1))


def length(query: Array) -> Array:
    """|q| [...] of `query` [..., width]: times |e R| it is the standard deviation of the error."""
    xp = array_namespace(query)
    return xp.sqrt(xp.sum(query * query, axis=-1))
