"""Logits of all units: exact but for those that together hold little."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shortlist.estimators.base import Scores
from shortlist.selectors import Confidence
from shortlist.selectors.distribution import distribution


def problem(seed, units, error):
    """Exact values, and estimates whose spread is right up to the factor `error`."""
    rng = np.random.default_rng(seed)
    values = (3 * rng.standard_normal(units)).astype(np.float32)
    spread = rng.uniform(0.2, 1.0, units).astype(np.float32)
    noise = error * spread * rng.standard_normal(units).astype(np.float32)
    return values, Scores(values + noise, spread)


@settings(max_examples=100)
@given(
    seed=st.integers(0, 2**32 - 1),
    units=st.integers(1, 2000),
    error=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    share=st.sampled_from([0.0, 1e-3, 0.1, 1e9]),
)
def test_no_more_than_the_share_is_left_to_estimates(seed, units, error, share):
    values, estimate = problem(seed, units, error)
    shortlist = Confidence(sigma=3.0, probes=8).select(estimate, values.__getitem__)
    logits, rows_read = distribution(estimate, shortlist, values.__getitem__, share)
    mass = np.exp(logits.astype(np.float64))
    known_mass = np.exp(shortlist.values.astype(np.float64)).sum()
    left = logits != values
    assert np.array_equal(logits[shortlist.indices], shortlist.values)
    assert units - rows_read >= left.sum()  # an estimate may happen to be exact
    assert mass[left].sum() <= share * known_mass * (1 + 1e-4)


def test_the_spread_is_corrected_by_the_errors_of_this_query(asarray):
    for error in (0.5, 1.0, 2.0):
        values, estimate = problem(seed=1, units=4000, error=error)
        exact = asarray(values).__getitem__
        estimate = Scores(asarray(estimate.values), asarray(estimate.margins))
        shortlist = Confidence(sigma=0.0, probes=1).select(estimate, exact)
        logits, _ = distribution(estimate, shortlist, exact, share=1e9)
        added = np.asarray(logits - estimate.values)
        left = np.asarray(logits) != values
        expected = 0.5 * (1.1 * error * np.asarray(estimate.margins)) ** 2
        assert np.allclose(added[left], expected[left], rtol=0.3)


def test_a_smaller_share_reads_more_units(asarray):
    values, estimate = problem(seed=2, units=3000, error=1.0)
    exact = asarray(values).__getitem__
    estimate = Scores(asarray(estimate.values), asarray(estimate.margins))
    shortlist = Confidence(sigma=1.0, probes=16).select(estimate, exact)
    reads = [distribution(estimate, shortlist, exact, share)[1] for share in (0.5, 0.1, 0.02, 0.0)]
    assert reads == sorted(set(reads))
    assert reads[-1] == 3000
