"""Sketches: unbiased over the draws, as good as Gaussian ones, from few inputs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortlist.errors import UsageError
from shortlist.estimators.sketch import Sketch

WIDTH = 256


def problem(units=400):
    rng = np.random.default_rng(0)
    table = rng.standard_normal((units, WIDTH)).astype(np.float32)
    return table, rng.standard_normal((50, WIDTH)).astype(np.float32)


def error(values, table, queries):
    return float(np.sqrt(np.mean((values - queries @ table.T) ** 2)))


def test_estimates_are_right_on_average_over_the_draws():
    table, queries = problem(units=20)
    draws = [
        Sketch(64, seed=seed).score(Sketch(64, seed=seed).fit(table, queries), queries).values
        for seed in range(200)
    ]
    one, mean = error(draws[0], table, queries), error(np.mean(draws, axis=0), table, queries)
    assert mean < 1.5 * one / 200**0.5


def test_sparse_sums_err_as_gaussian_ones():
    table, queries = problem()
    estimator = Sketch(64)
    sparse = error(estimator.score(estimator.fit(table, queries), queries).values, table, queries)
    gaussian = np.random.default_rng(1).standard_normal((WIDTH, 64)) / 8
    dense = error((queries @ gaussian) @ (table @ gaussian).T, table, queries)
    assert sparse == pytest.approx(dense, rel=0.1)


def test_an_input_that_is_far_larger_than_the_others_is_not_left_to_chance():
    table, queries = problem()
    table[:, 7] *= 100
    queries[:, 7] *= 100
    estimator = Sketch(64)
    sparse = error(estimator.score(estimator.fit(table, queries), queries).values, table, queries)
    assert sparse < 400  # of scores around 10,000


@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 30), st.integers(0, 9))
def test_sums_have_different_inputs_and_inputs_are_in_equally_many(rank, width, nonzeros, seed):
    table = np.ones((3, width), np.float32)
    state = Sketch(rank, nonzeros, seed).fit(table, table)
    places, weights = state["places"], state["weights"].astype(np.float64)
    assert places.shape == weights.shape == (rank, min(nonzeros, width))
    assert all(len(set(row)) == len(row) for row in places.tolist())
    counts = np.bincount(places.ravel(), minlength=width)
    assert counts.max() - counts.min() <= 1
    squares = np.bincount(places.ravel(), weights.ravel() ** 2, minlength=width)
    np.testing.assert_allclose(squares[counts > 0], 1, rtol=1e-2)


def test_options_out_of_range_are_refused():
    with pytest.raises(UsageError, match="at least 1 number"):
        Sketch(0)
    with pytest.raises(UsageError, match="at least 1 input"):
        Sketch(8, nonzeros=0)
    with pytest.raises(UsageError, match="a width up to"):
        Sketch(8).layout(3, 2**15 + 1)
