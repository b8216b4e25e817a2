"""One codebook for all parts: what it stores, and that it does better than one for each."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shortlist.errors import UsageError
from shortlist.estimators import Codebook, SharedCodebook

WIDTH = 48


def problem(units=300, width=WIDTH):
    """Queries and rows whose inputs differ in size."""
    rng = np.random.default_rng(0)
    sizes = np.geomspace(10, 0.1, width)
    queries = rng.standard_normal((400, width)) * rng.permutation(sizes)
    return rng.standard_normal((units, width)).astype(np.float32), queries.astype(np.float32)


def error(estimator, table, queries):
    values = estimator.score(estimator.fit(table, queries), queries).values
    return float(np.mean((values - queries @ table.T) ** 2))


def test_one_codebook_takes_less_than_many_and_errs_less_in_the_metric_of_the_queries():
    table, queries = problem()
    ours, theirs = SharedCodebook(4), Codebook(4)
    assert ours.bytes_per_query(len(table), WIDTH) < theirs.bytes_per_query(len(table), WIDTH)
    assert error(ours, table, queries) < 0.8 * error(theirs, table, queries)


def test_values_are_sums_of_lookups():
    table, queries = problem(units=40)
    estimator = SharedCodebook(4, dimensions=3)
    state = estimator.fit(table, queries)
    coordinates = np.einsum("pdm,pm->pd", state["projection"], queries[0].reshape(-1, 4))
    lookups = coordinates @ state["centroids"].astype(np.float32).T
    sums = [sum(lookups[p, code] for p, code in enumerate(codes)) for codes in state["codes"]]
    np.testing.assert_allclose(estimator.score(state, queries[0]).values, sums, rtol=1e-4, atol=1e-3)


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(1, 13), st.integers(1, 7), st.data())
def test_any_width_is_cut_into_parts(units, width, part, data):
    table, queries = problem(units, width)
    dimensions = data.draw(st.integers(1, part))
    estimator = SharedCodebook(part, dimensions)
    state = estimator.fit(table, queries)
    estimator.check(state, units, width)
    assert state["codes"].shape == (units, -(-width // part))
    assert np.all(np.isfinite(estimator.score(state, queries).values))


def test_inputs_that_are_never_used_are_no_obstacle():
    table, queries = problem()
    queries[:, 8:16] = 0
    assert np.isfinite(error(SharedCodebook(4), table, queries))


def test_options_out_of_range_are_refused():
    with pytest.raises(UsageError, match="at least 1 input"):
        SharedCodebook(0)
    with pytest.raises(UsageError, match="1 to 4 dimensions"):
        SharedCodebook(4, dimensions=5)
