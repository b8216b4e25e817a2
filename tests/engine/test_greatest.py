import time

import numpy as np

from shortlist.engine.greatest import Greatest
from shortlist.models.heads import DenseHead, EstimatedHead, ExactHead

STATES = np.zeros((4, 8), np.float32)


def timed(kind, seconds):
    """A head that only takes time."""

    class Timed(kind):
        calls = 0

        def __init__(self):
            pass

        def argmax_together(self, hidden):
            self.calls += 1
            time.sleep(seconds)
            return [(0, None)] * len(hidden)

    return Timed()


def test_the_faster_head_is_taken_in_place_of_the_exact_one():
    dense, exact = timed(DenseHead, 0.001), timed(ExactHead, 0.01)
    greatest = Greatest(dense)
    for _ in range(24):
        greatest(exact, STATES)
    assert dense.calls == greatest.dense_steps == 22
    assert exact.calls == 2


def test_the_exact_head_stays_where_it_is_faster():
    dense, exact = timed(DenseHead, 0.01), timed(ExactHead, 0.001)
    greatest = Greatest(dense)
    for _ in range(24):
        greatest(exact, STATES)
    assert (dense.calls, exact.calls) == (2, 22)


def test_one_text_and_estimates_keep_to_their_head():
    dense = timed(DenseHead, 0)
    greatest = Greatest(dense)
    for head, states in ((timed(ExactHead, 0), STATES[:1]), (timed(EstimatedHead, 0), STATES)):
        for _ in range(8):
            greatest(head, states)
        assert head.calls == 8
    assert dense.calls == 0
