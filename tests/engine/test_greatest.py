import time

import numpy as np
from engine.fakes import FixedHead

from shortlist.engine.adjust import Adjustment
from shortlist.engine.exact_sampling import Asked
from shortlist.engine.greatest import Greatest
from shortlist.engine.options import SamplingOptions
from shortlist.engine.sampling import sample

STATES = np.zeros((4, 8), np.float32)


def timed(name, seconds):
    """A head that only takes time."""

    class Timed:
        calls = 0
        exact = name != "estimated"

        def argmax_together(self, hidden):
            self.calls += 1
            time.sleep(seconds)
            return [(0, None)] * len(hidden)

    return Timed()


def test_the_faster_head_is_taken_in_place_of_the_exact_one():
    dense, exact = timed("dense", 0.001), timed("exact", 0.01)
    greatest = Greatest(dense)
    for _ in range(24):
        greatest(exact, STATES)
    assert dense.calls == greatest.dense_steps == 22
    assert exact.calls == 2


def test_the_exact_head_stays_where_it_is_faster():
    dense, exact = timed("dense", 0.01), timed("exact", 0.001)
    greatest = Greatest(dense)
    for _ in range(24):
        greatest(exact, STATES)
    assert (dense.calls, exact.calls) == (2, 22)


def test_one_text_and_estimates_keep_to_their_head():
    dense = timed("dense", 0)
    greatest = Greatest(dense)
    for head, states in ((timed("exact", 0), STATES[:1]), (timed("estimated", 0), STATES)):
        for _ in range(8):
            greatest(head, states)
        assert head.calls == 8
    assert dense.calls == 0


class Clock:
    """Time that passes only where a head reads."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr("shortlist.engine.greatest.time.perf_counter", lambda: self.now)

    def head(self, name, seconds):
        clock = self

        class Timed:
            exact = name != "estimated"

            def __init__(self):
                self.calls = []

            def argmax_together(self, hidden):
                clock.now += seconds[-1] if not seconds[1:] else seconds.pop(0)
                self.calls.append(len(hidden))
                return [(0, None)] * len(hidden)

        return Timed()


def taken(greatest, exact, steps, states=STATES) -> str:
    """E where the exact head was taken, D where the dense one was."""
    letters = ""
    for _ in range(steps):
        before = greatest.dense_steps
        greatest(exact, states)
        letters += "D" if greatest.dense_steps > before else "E"
    return letters


def test_both_are_timed_twice_then_the_faster_one_stays_and_the_other_is_timed_again(monkeypatch):
    clock = Clock(monkeypatch)
    for seconds, faster, slower in ((1.0, "D", "E"), (3.0, "E", "D")):
        greatest, exact = Greatest(clock.head("dense", [seconds])), clock.head("exact", [2.0])
        others = faster * 127
        assert taken(greatest, exact, 260) == "EDED" + faster * 124 + slower + others + slower + faster * 3


def test_of_equally_fast_heads_the_exact_one_is_taken(monkeypatch):
    clock = Clock(monkeypatch)
    greatest, exact = Greatest(clock.head("dense", [1.0])), clock.head("exact", [1.0])
    assert taken(greatest, exact, 20) == "EDED" + 16 * "E"


def test_one_fast_step_moves_the_mean_by_a_fifth(monkeypatch):
    clock = Clock(monkeypatch)
    # The exact head's mean goes from 10 to 8 at its third step, and to 6.4 at its fourth.
    for dense_seconds, after in ((7.9, "D"), (8.1, "E")):
        greatest = Greatest(clock.head("dense", [dense_seconds]))
        exact = clock.head("exact", [10.0, 10.0, 0.0, 0.0])
        assert taken(greatest, exact, 130)[128:] == "E" + after


def test_each_number_of_texts_has_its_own_times(monkeypatch):
    clock = Clock(monkeypatch)
    greatest, exact = Greatest(clock.head("dense", [1.0])), clock.head("exact", [2.0])
    assert taken(greatest, exact, 6) == "EDEDDD"
    assert taken(greatest, exact, 4, STATES[:2]) == "EDED"
    assert taken(greatest, exact, 2) == "DD"


def test_draws_have_their_own_times_and_are_those_of_either_head(monkeypatch):
    clock = Clock(monkeypatch)
    generator = np.random.default_rng(0)
    logits = generator.normal(size=50).astype(np.float32)
    options = SamplingOptions(temperature=1.0, seed=3)
    asked = [Asked(options, position, Adjustment(options, [], 50)) for position in range(4)]

    def head(name, seconds):
        class Timed(FixedHead):
            def draw_together(self, hidden, asked):
                clock.now += seconds
                return super().draw_together(hidden, asked)

            def argmax_together(self, hidden):
                clock.now += seconds
                return [(0, None)] * len(hidden)

        one = Timed(logits, logits, logits)
        one.name = name
        return one

    greatest, exact = Greatest(head("dense", 1.0)), head("exact", 2.0)
    assert taken(greatest, exact, 6) == "EDEDDD"
    steps, expected = [], [sample(logits, options, position) for position in range(4)]
    for _ in range(6):
        before = greatest.dense_steps
        assert [draw.token for draw in greatest.draw(exact, STATES, asked)] == expected
        steps.append(greatest.dense_steps - before)
    assert steps == [0, 1, 0, 1, 1, 1]
