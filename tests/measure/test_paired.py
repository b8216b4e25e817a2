"""Intervals of paired differences cover what they claim to."""

import numpy as np
import pytest

from shortlist.measure.paired import Interval, affordable


def test_the_interval_covers_the_true_mean_in_about_95_of_100_samples():
    rng = np.random.default_rng(0)
    samples = rng.normal(0.3, 2.0, (2000, 200))
    intervals = [Interval.of(sample) for sample in samples]
    below = np.mean([interval.upper < 0.3 for interval in intervals])
    assert 0.015 < below < 0.035  # 2.5 % on either side


def test_one_difference_says_nothing_of_the_error():
    assert Interval.of(np.array([0.5])).upper == np.inf


@pytest.mark.parametrize("tokens", [128, 4096, 10**9])
def test_what_is_affordable_ends_at_the_budget(tokens):
    loss = affordable(0.005, tokens)
    assert loss + 1.96 * np.sqrt(2 * loss / tokens) == pytest.approx(0.005)
    assert 0 < loss < 0.005
