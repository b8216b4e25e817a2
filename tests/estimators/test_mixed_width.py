"""Mixed width: more dimensions for rows that are often needed, and every score in its place."""

import json

import numpy as np
import pytest

from shortlist.errors import UsageError
from shortlist.estimators.low_rank import LowRank
from shortlist.estimators.mixed_width import MixedWidth, group_slices, learn_ranks, need

WIDTH, UNITS = 64, 240


def problem():
    """A table of which every third row is often needed, and large."""
    rng = np.random.default_rng(0)
    table = rng.standard_normal((UNITS, WIDTH)) * 0.1
    table[::3] *= 5
    queries = rng.standard_normal((600, WIDTH)) @ np.diag(np.geomspace(1, 0.1, WIDTH))
    return table.astype(np.float32), queries.astype(np.float32)


def test_equal_ranks_are_low_rank():
    table, queries = problem()
    mixed, plain = MixedWidth((32, 32, 32)), LowRank(32)
    ours = mixed.estimate(mixed.fit(table, queries), queries)
    theirs = plain.estimate(plain.fit(table, queries), queries)
    np.testing.assert_allclose(ours.values, theirs.values, atol=1e-3)
    np.testing.assert_allclose(ours.spread, theirs.spread, rtol=1e-2)


def test_need_is_the_mean_probability():
    table, queries = problem()
    scores = queries[:100] @ table.T
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(need(table, queries[:100]), probabilities.mean(axis=0), rtol=1e-3)


def test_rows_that_are_needed_get_more_dimensions_and_err_less():
    table, queries = problem()
    estimator = learn_ranks(table, queries, rank=16, groups=3)
    assert np.mean(estimator.ranks) == pytest.approx(16, abs=1)
    assert estimator.ranks[0] > 2 * estimator.ranks[2]
    values = estimator.estimate(estimator.fit(table, queries), queries).values
    uniform = LowRank(16)
    even = uniform.estimate(uniform.fit(table, queries), queries).values
    exact = queries @ table.T
    assert np.abs(values - exact)[:, ::3].mean() < 0.8 * np.abs(even - exact)[:, ::3].mean()


def test_strength_moves_dimensions_to_what_is_needed():
    table, queries = problem()
    leads = [
        ranks[0] - ranks[-1]
        for ranks in (learn_ranks(table, queries, 16, 3, strength).ranks for strength in (0.0, 0.5, 2.0))
    ]
    assert leads == sorted(leads)


def test_groups_cover_the_units_once():
    covered = np.concatenate([np.arange(10)[rows] for rows in group_slices(10, 3)])
    assert covered.tolist() == list(range(10))


def test_ranks_come_back_from_json():
    assert MixedWidth(json.loads(json.dumps((8, 4)))) == MixedWidth((8, 4))


def test_requests_that_cannot_be_met():
    table, queries = problem()
    with pytest.raises(UsageError, match="at least 1 dimension"):
        MixedWidth((8, 0))
    with pytest.raises(UsageError, match="wider"):
        MixedWidth((WIDTH, 8)).fit(table, queries)
    with pytest.raises(UsageError, match="does not fit"):
        learn_ranks(table, queries, WIDTH)
