"""The tokens of several texts at once, by whichever head is faster for so many."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from shortlist.engine.exact_sampling import Asked, Draw, draw_together
from shortlist.sites.head import Head

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
        self._seconds: dict[tuple[int, bool, bool], float] = {}
        self._steps: dict[tuple[int, bool], int] = {}
        self.dense_steps = 0

    def __call__(self, head: Head, hidden: np.ndarray) -> list[Draw]:
        """The greatest logit of each of hidden states float32 [n, width] that `head` reads."""
        return self._by_the_faster(
            head, (len(hidden), True), lambda one: [Draw(*winner) for winner in one.argmax_together(hidden)]
        )

    def draw(self, head: Head, hidden: np.ndarray, asked: Sequence[Asked]) -> list[Draw]:
        """What `draw_together` draws."""
        return self._by_the_faster(head, (len(hidden), False), lambda one: draw_together(one, hidden, asked))

    def _by_the_faster(
        self, head: Head, step: tuple[int, bool], read: Callable[[Head], list[Draw]]
    ) -> list[Draw]:
        """Read one of the heads for a step of so many texts, greedy or not."""
        if step[0] == 1 or not head.exact or head is self._dense:
            return read(head)
        dense = self._takes_dense(step)
        self.dense_steps += dense
        started = time.perf_counter()
        draws = read(self._dense if dense else head)
        seconds = time.perf_counter() - started
        known = self._seconds.get((*step, dense), seconds)
        self._seconds[*step, dense] = (1 - SMOOTH) * known + SMOOTH * seconds
        return draws

    def _takes_dense(self, step: tuple[int, bool]) -> bool:
        count = self._steps[step] = self._steps.get(step, -1) + 1
        if count < 4:
            return count % 2 == 1
        dense = self._seconds[*step, True] < self._seconds[*step, False]
        return dense != (count % AGAIN == 0)
