"""Time several ways to do the same, in turns, so that what else the machine does hits all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

import numpy as np

ROUNDS = 24
FASTEST = 0.25  # share of the rounds that count: what was interrupted says nothing of the code
LEAST_SAVED = 0.005  # share of the time, and ...
LEAST_WINS = 0.7  # ... share of the rounds in which a way has to be faster: by chance 24 rounds rarely say so


@dataclass(frozen=True)
class Times:
    """Seconds of one way [rounds]."""

    seconds: np.ndarray

    @property
    def typical(self) -> float:
        """Mean of the fastest quarter of the rounds."""
        count = max(1, round(FASTEST * len(self.seconds)))
        return float(np.mean(np.sort(self.seconds)[:count]))

    def beat(self, other: Times) -> bool:
        """Whether this way is faster than another that took turns with it, beyond what noise explains."""
        wins = float(np.mean(self.seconds < other.seconds))
        return wins >= LEAST_WINS and self.typical <= (1 - LEAST_SAVED) * other.typical


def take_turns(
    ways: Mapping[str, Callable[[], object]],
    progress: Callable[[float], None] = lambda _: None,
    rounds: int = ROUNDS,
) -> dict[str, Times]:
    """Time each way once a round, after a first call that does not count.

    Parameters
    ----------
    ways : mapping of callables
    progress : callable
        Called with the share of the work that is done.
    rounds : int
    """
    seconds = {name: np.zeros(rounds + 1) for name in ways}
    for done in range(rounds + 1):
        for name, way in ways.items():
            start = perf_counter()
            way()
            seconds[name][done] = perf_counter() - start
        progress((done + 1) / (rounds + 1))
    return {name: Times(taken[1:]) for name, taken in seconds.items()}
