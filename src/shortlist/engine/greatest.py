"""The greedy tokens of several texts at once, by whichever head is faster for so many."""

import time

import numpy as np

from shortlist.sites.head import Head, Read

SMOOTH = 0.2  # weight of the latest step in the mean of a head's seconds
AGAIN = 128  # steps after which the slower head is timed again


class Greatest:
    """Chooses between a head and the dense one, for each number of texts by what both were measured to take.

    The exact head gives the dense head's token whatever it reads, so a batch may take either: what each text
    leaves out differs, and the more texts there are the less is left out for all. The estimated head keeps to
    itself, so that a text does not depend on its neighbours. Its native code decides for each text: where a
    shortlist grows past its limit, that text takes the bound on all rows, or all rows, together with the
    others that do.

    Parameters
    ----------
    dense

    Attributes
    ----------
    dense_steps : int
        How often the dense head took the place of an exact one.
    """

    def __init__(self, dense: Head):
        self._dense = dense
        self._seconds: dict[tuple[int, bool], float] = {}
        self._steps: dict[int, int] = {}
        self.dense_steps = 0

    def __call__(self, head: Head, hidden: np.ndarray) -> list[tuple[int, Read]]:
        """Token and what was read for it, for hidden states float32 [n, width] that `head` reads."""
        count = len(hidden)
        if count == 1 or not head.exact or head is self._dense:
            return head.argmax_together(hidden)
        dense = self._takes_dense(count)
        self.dense_steps += dense
        started = time.perf_counter()
        winners = (self._dense if dense else head).argmax_together(hidden)
        seconds = time.perf_counter() - started
        known = self._seconds.get((count, dense), seconds)
        self._seconds[count, dense] = (1 - SMOOTH) * known + SMOOTH * seconds
        return winners

    def _takes_dense(self, count: int) -> bool:
        step = self._steps[count] = self._steps.get(count, -1) + 1
        if step < 4:
            return step % 2 == 1
        dense = self._seconds[count, True] < self._seconds[count, False]
        return dense != (step % AGAIN == 0)
