"""What takes longer is found to, whatever comes between; noise alone is not."""

import time

import numpy as np
import pytest

from shortlist.measure.interleaved import Times, take_turns


def test_the_fastest_quarter_counts_and_ways_take_turns():
    order, calls = [], iter(range(100))

    def disturbed():
        order.append("short")
        time.sleep(0.02 if next(calls) % 3 == 0 else 0.001)

    def long():
        order.append("long")
        time.sleep(0.005)

    heard = []
    times = take_turns({"short": disturbed, "long": long}, heard.append, rounds=12)
    assert order == ["short", "long"] * 13
    assert times["short"].typical < times["long"].typical
    assert len(times["long"].seconds) == 12
    assert heard[-1] == 1


@pytest.mark.parametrize("seed", range(5))
def test_what_is_faster_beats_under_noise(seed):
    rng = np.random.default_rng(seed)
    slow, fast = (Times(base + rng.exponential(0.1, 24)) for base in (1.0, 0.8))
    assert fast.beat(slow)
    assert not slow.beat(fast)


def test_noise_alone_rarely_beats():
    rng = np.random.default_rng(0)
    found = [Times(rng.exponential(1, 24)).beat(Times(rng.exponential(1, 24))) for _ in range(500)]
    assert np.mean(found) < 0.06
