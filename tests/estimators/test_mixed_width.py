"""Mixed width: more dimensions for rows that are often needed, and every score in its place."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortlist.errors import UsageError
from shortlist.estimators.low_rank import LowRank
from shortlist.estimators.mixed_width import MixedWidth, _spend, group_slices, learn_ranks, need

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
    ours = mixed.score(mixed.fit(table, queries), queries)
    theirs = plain.score(plain.fit(table, queries), queries)
    np.testing.assert_allclose(ours.values, theirs.values, atol=1e-3)
    np.testing.assert_allclose(ours.reach(), theirs.reach(), rtol=1e-2)


def test_need_is_the_mean_probability():
    table, queries = problem()
    scores = queries[:100] @ table.T
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(need(table, queries[:100]), probabilities.mean(axis=0), rtol=1e-3)


def test_rows_that_are_needed_get_more_dimensions_and_are_found_more_often(asarray):
    table, queries = problem()
    estimator = learn_ranks(asarray(table), asarray(queries), rank=6, groups=3, keep=0.1)
    assert np.mean(estimator.ranks) <= 6
    assert estimator.ranks[0] > 2 * estimator.ranks[2]
    recalls = [winners_found(method, table, queries) for method in (LowRank(6), estimator)]
    assert recalls[1] > recalls[0] + 0.02


def winners_found(estimator, table, queries):
    """Share of the best rows that are among the best tenth by estimate."""
    values = estimator.score(estimator.fit(table, queries), queries).values
    found = np.argsort(-values, axis=1)[:, : UNITS // 10]
    return np.mean(np.any(found == np.argmax(queries @ table.T, axis=1)[:, None], axis=1))


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=6, max_size=6), min_size=1, max_size=4),
    st.integers(0, 30),
)
def test_the_budget_is_spent_while_it_gains(found, more):
    budget = len(found) + more
    ranks = _spend(found, budget)
    assert len(ranks) == len(found)
    assert all(1 <= rank <= 5 for rank in ranks)
    assert sum(ranks) <= budget
    if budget >= 5 * len(found):  # enough for all
        assert [counts[rank - 1] for counts, rank in zip(found, ranks, strict=True)] == [
            max(counts[:5]) for counts in found
        ]


def test_a_run_that_gains_nothing_at_first_is_still_taken():
    assert _spend([[0, 0, 9, 9], [1, 1, 1, 1]], 4) == (3, 1)


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
