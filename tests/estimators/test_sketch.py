"""Sketches: unbiased over the draws, as good as Gaussian ones, from few inputs."""

import numpy as np
import pytest

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
        Sketch(64, seed=seed).estimate(Sketch(64, seed=seed).fit(table, queries), queries).values
        for seed in range(200)
    ]
    one, mean = error(draws[0], table, queries), error(np.mean(draws, axis=0), table, queries)
    assert mean < 1.5 * one / 200**0.5


def test_sparse_sums_err_as_gaussian_ones():
    table, queries = problem()
    estimator = Sketch(64)
    sparse = error(estimator.estimate(estimator.fit(table, queries), queries).values, table, queries)
    gaussian = np.random.default_rng(1).standard_normal((WIDTH, 64)) / 8
    dense = error((queries @ gaussian) @ (table @ gaussian).T, table, queries)
    assert sparse == pytest.approx(dense, rel=0.1)


def test_each_sum_has_different_inputs():
    state = Sketch(32).fit(*problem())
    assert state["places"].shape == (32, 16)
    assert all(len(set(places)) == 16 for places in state["places"].tolist())
    assert set(np.unique(state["signs"])) == {-1, 1}


def test_options_out_of_range_are_refused():
    with pytest.raises(UsageError, match="at least 1 number"):
        Sketch(0)
    with pytest.raises(UsageError, match="at least 1 input"):
        Sketch(8, nonzeros=0)
    with pytest.raises(UsageError, match="a width up to"):
        Sketch(8).layout(3, 2**15 + 1)
