"""How long a token takes with each head, measured where the recipe is fitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

ROUNDS = 3  # of which the median counts, for each position


def token_seconds(
    decoder: Any,
    heads: Mapping[str, Any],
    hidden: np.ndarray,
    prompt: Sequence[int],
    progress: Callable[[float], None] = lambda _: None,
) -> dict[str, float]:
    """Mean seconds of a greedy token with each head, the decoder's step included.

    As in use, a step of the decoder comes before every query: it drives the head out of the cache.

    Parameters
    ----------
    decoder : Decoder
    heads : mapping of head
        With `argmax`.
    hidden : float32 [positions, width]
    prompt : sequence of int
        What the decoder steps after.
    progress : callable
        Called with the share of the work that is done.
    """
    cache = decoder.new_cache(len(prompt) + 1 + ROUNDS * len(heads) * len(hidden))
    decoder.forward(np.array(prompt, dtype=np.int32), cache)
    last = np.array(prompt[-1:], dtype=np.int32)
    steps: list[float] = []
    queries: dict[str, list[float]] = {name: [] for name in heads}
    for done, state in enumerate(hidden, start=1):
        taken: dict[str, list[float]] = {name: [] for name in heads}
        for _ in range(ROUNDS):
            for name, head in heads.items():
                start = perf_counter()
                decoder.forward(last, cache)
                middle = perf_counter()
                head.argmax(state)
                steps.append(middle - start)
                taken[name].append(perf_counter() - middle)
        for name, seconds in taken.items():
            queries[name].append(median(seconds))
        progress(done / len(hidden))
    return {name: median(steps) + float(np.mean(seconds)) for name, seconds in queries.items()}
