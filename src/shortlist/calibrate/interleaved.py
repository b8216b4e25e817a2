"""Time several ways to do the same, in turns, so that what else the machine does hits all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter

import numpy as np

ROUNDS = 24
FASTEST = 0.25  # share of the rounds that count: what was interrupted says nothing of the code


def seconds_in_turns(
    ways: Mapping[str, Callable[[], object]],
    progress: Callable[[float], None] = lambda _: None,
    rounds: int = ROUNDS,
) -> dict[str, float]:
    """Mean seconds of the fastest quarter of the calls of each way.

    Parameters
    ----------
    ways : mapping of callables
        Each is called once a round, after a first call that does not count.
    progress : callable
        Called with the share of the work that is done.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for done in range(rounds + 1):
        for name, way in ways.items():
            start = perf_counter()
            way()
            taken[name].append(perf_counter() - start)
        progress((done + 1) / (rounds + 1))
    count = max(1, round(FASTEST * rounds))
    return {name: float(np.mean(np.sort(seconds[1:])[:count])) for name, seconds in taken.items()}
