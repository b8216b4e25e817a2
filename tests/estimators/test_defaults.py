"""Computed defaults: each is right where the answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortlist.errors import UsageError
from shortlist.estimators.defaults import (
    NORMAL_ERROR,
    default_rank,
    energy_rank,
    enough_bits,
    intrinsic_dimension,
    relevance_rank,
    score_variances,
)
from shortlist.estimators.low_rank import LowRank
from shortlist.estimators.quantized import Quantized


def problem(directions=6, width=40):
    """Queries in few directions, and rows in all."""
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((800, directions)) @ rng.standard_normal((directions, width))
    return rng.standard_normal((300, width)).astype(np.float32), queries.astype(np.float32)


def test_variances_are_those_of_the_scores():
    table, queries = problem()
    variances = score_variances(table, queries)
    assert variances.sum() == pytest.approx(np.sum((queries @ table.T) ** 2) / len(queries), rel=0.05)
    assert np.all(np.diff(variances) <= 0)
    assert variances[6:].sum() < 0.1 * variances.sum()


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=30), st.floats(0.01, 1))
def test_energy_rank_is_the_first_that_holds_the_share(values, share):
    variances = np.sort(np.array(values))[::-1]
    rank = energy_rank(variances, share)
    assert variances[:rank].sum() >= share * variances.sum() * (1 - 1e-9)
    assert variances[: rank - 1].sum() < share * variances.sum() or rank == 1


def test_energy_that_is_held_is_the_share_of_the_scores_that_is_explained():
    table, queries = problem(directions=40)
    rank = energy_rank(score_variances(table, queries), 0.9)
    state = LowRank(rank).fit(table, queries)
    scores = queries @ table.T
    lost = np.mean((LowRank(rank).score(state, queries).values - scores) ** 2) / np.mean(scores**2)
    assert 0.07 < lost < 0.11


def test_relevance_counts_what_stands_out():
    assert relevance_rank(np.array([10.0, 5.0, 0.1, 0.1, 0.1])) == 2
    assert relevance_rank(np.ones(7)) == 7
    assert default_rank(np.ones(70)) == 96


@pytest.mark.parametrize("dimension", [2, 5])
def test_intrinsic_dimension_is_that_of_the_surface(dimension):
    rng = np.random.default_rng(0)
    flat = rng.uniform(size=(1500, dimension))
    bent = np.concatenate([np.sin(flat), flat**2, flat], axis=1).astype(np.float32)
    assert intrinsic_dimension(bent) == pytest.approx(dimension, rel=0.15)
    with pytest.raises(UsageError, match="at least 3"):
        intrinsic_dimension(np.ones((10, 4), np.float32))


def test_bits_leave_the_share_that_was_asked_for():
    table, queries = problem(directions=40)
    scores = queries @ table.T
    for share in (0.8, 0.95, 0.98):
        bits = enough_bits(table, queries, share)
        values = Quantized(bits).score(Quantized(bits).fit(table, queries), queries).values
        assert np.mean((values - scores) ** 2) / np.mean(scores**2) <= (1 - share) * 1.05
    assert enough_bits(table, queries, 0.8) < enough_bits(table, queries, 0.98)
    assert enough_bits(table, queries, 1.0) == 4


def test_rounding_errors_are_those_of_normal_numbers():
    numbers = np.random.default_rng(0).standard_normal((2000, 32)).astype(np.float32)
    for bits, wanted in NORMAL_ERROR.items():
        estimator = Quantized(bits, "row")
        state = estimator.fit(numbers, np.eye(32, dtype=np.float32))
        decoded = estimator.decode(state, slice(0, 2000), 32)
        assert np.mean((decoded - numbers) ** 2) <= wanted * 1.1
