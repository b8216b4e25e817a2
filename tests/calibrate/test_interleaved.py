"""What takes longer is found to, whatever comes between."""

import time

from shortlist.calibrate.interleaved import seconds_in_turns


def test_the_fastest_quarter_counts_and_ways_take_turns():
    order, calls = [], iter(range(100))

    def disturbed():
        order.append("short")
        time.sleep(0.02 if next(calls) % 3 == 0 else 0.001)

    def long():
        order.append("long")
        time.sleep(0.005)

    heard = []
    seconds = seconds_in_turns({"short": disturbed, "long": long}, heard.append, rounds=12)
    assert order == ["short", "long"] * 13
    assert seconds["short"] < seconds["long"] < 0.02
    assert heard[-1] == 1
