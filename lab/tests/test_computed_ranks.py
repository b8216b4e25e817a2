"""Computed defaults: each is right where the answer is known."""

import numpy as np
import pytest
from computed_ranks import (
    energy_rank,
    intrinsic_dimension,
    relevance_rank,
    score_variances,
)
from hypothesis import given
from hypothesis import strategies as st

from shortlist.errors import UsageError
from shortlist.estimators.low_rank import LowRank


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


@pytest.mark.parametrize("dimension", [2, 5])
def test_intrinsic_dimension_is_that_of_the_surface(dimension):
    rng = np.random.default_rng(0)
    flat = rng.uniform(size=(1500, dimension))
    bent = np.concatenate([np.sin(flat), flat**2, flat], axis=1).astype(np.float32)
    assert intrinsic_dimension(bent) == pytest.approx(dimension, rel=0.15)
    with pytest.raises(UsageError, match="at least 3"):
        intrinsic_dimension(np.ones((10, 4), np.float32))
