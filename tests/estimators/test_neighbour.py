"""Neighbour: what was computed carries over, and uncertainty grows until it is computed again."""

from itertools import pairwise

import numpy as np

from shortlist.estimators.neighbour import Neighbour
from shortlist.selectors import Confidence

WIDTH, UNITS = 32, 200


def problem(memory=0.9, steps=2000):
    """Queries of which each remembers the one before."""
    rng = np.random.default_rng(0)
    queries = np.zeros((steps, WIDTH))
    for t in range(1, steps):
        queries[t] = memory * queries[t - 1] + (1 - memory**2) ** 0.5 * rng.standard_normal(WIDTH)
    table = rng.standard_normal((UNITS, WIDTH)) / WIDTH**0.5
    return table.astype(np.float32), (queries + 0.5).astype(np.float32)


def test_numbers_are_those_of_the_scores():
    table, queries = problem()
    state = Neighbour().fit(table, queries)
    scores = queries @ table.T
    np.testing.assert_allclose(state["mean"], scores.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(state["deviation"], scores.std(axis=0), rtol=0.02)
    assert abs(np.median(state["correlation"]) - 0.9) < 0.03


def test_guess_and_spread_of_the_next_step():
    table, queries = problem()
    estimator = Neighbour()
    state = estimator.fit(table, queries[:1000])
    errors, spreads = [], []
    for before, after in pairwise(queries[1000:]):
        state = estimator.refresh(state, np.arange(UNITS), table @ before)
        estimate = estimator.score(state, after)
        errors.append(estimate.values - table @ after)
        spreads.append(estimate.reach())
    assert 0.9 < np.sqrt(np.mean((np.array(errors) / np.array(spreads)) ** 2)) < 1.1
    assert np.std(errors) < 0.6 * np.std(queries[1000:] @ table.T)


def test_what_is_not_computed_goes_back_to_its_mean():
    table, queries = problem()
    estimator = Neighbour()
    fresh = estimator.fit(table, queries)
    state = estimator.refresh(fresh, np.array([3]), np.array([9.0], np.float32))
    distances, spreads = [], []
    for _ in range(200):
        distances.append(abs(state["values"][3] - fresh["mean"][3]))
        spreads.append(state["spread"][3])
        state = estimator.refresh(state, np.array([], np.int64), np.array([], np.float32))
    assert distances == sorted(distances, reverse=True)
    assert spreads == sorted(spreads)
    assert distances[-1] < 0.01 * distances[0]
    np.testing.assert_allclose(spreads[-1], fresh["deviation"][3], rtol=0.01)


def test_a_state_is_not_changed_by_the_next_one():
    table, queries = problem()
    state = Neighbour().fit(table, queries)
    kept = {name: array.copy() for name, array in state.items()}
    Neighbour().refresh(state, np.array([0, 1]), np.array([5.0, 6.0], np.float32))
    for name, array in state.items():
        np.testing.assert_array_equal(array, kept[name])


def test_confidence_reads_what_has_become_uncertain():
    table, queries = problem()
    estimator = Neighbour()
    state = estimator.fit(table, queries[:1000])
    found, read = [], []
    for query in queries[1000:1300]:
        scores = table @ query
        estimate = estimator.score(state, query)
        shortlist = Confidence(sigma=3.5, probes=4).select(estimate, lambda i, s=scores: s[i])
        found.append(scores.argmax() in shortlist.indices)
        read.append(shortlist.rows_read / UNITS)
        state = estimator.refresh(state, shortlist.indices, shortlist.values)
    assert np.mean(found) > 0.95
    assert np.mean(read) < 0.9
