"""Which shortlists of layers save time on this machine: bytes alone are worth nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np

from shortlist.measure.interleaved import Times, take_turns
from shortlist.selectors import Threshold

TIMED_KEEPS = (0.9, 0.65, 0.4)
CONTEXT = 64  # tokens before the ones that are timed


def step(decoder: Any, tokens: np.ndarray) -> Callable[[], None]:
    """A call that decodes one token after `CONTEXT` others, again and again at the same position."""
    cache = decoder.new_cache(CONTEXT + 1)
    decoder.forward(tokens[:CONTEXT], cache)
    length, last = cache.length, tokens[:1]

    def once() -> None:
        decoder.forward(last, cache)
        cache.truncate(length)

    return once


@dataclass(frozen=True)
class Payoff:
    """A decode step with all sites of one kind by channel, against one with none.

    Attributes
    ----------
    dense : float
        Seconds.
    by_keep : dict of float to float
        Seconds with each share of the channels.
    largest_keep : float or None
        The largest share with which a step is faster, as with all smaller ones; None where there is none.
    """

    dense: float
    by_keep: dict[float, float]
    largest_keep: float | None

    @classmethod
    def of(cls, dense: Times, by_keep: Mapping[float, Times]) -> Payoff:
        """What was timed in turns."""
        paying = list(takewhile(lambda keep: by_keep[keep].beat(dense), sorted(by_keep)))
        seconds = {keep: times.typical for keep, times in by_keep.items()}
        return cls(dense.typical, seconds, paying[-1] if paying else None)


def time_channels(
    dense: Any, decoder: Any, tokens: np.ndarray, progress: Callable[[float], None] = lambda _: None
) -> Payoff:
    """Time decode steps with shares of the channels at all sites of a decoder that has them by channel.

    Parameters
    ----------
    dense : Decoder
        The same without these sites.
    decoder : Decoder
        By channel, with inputs as they are for scores.
    tokens : int32 [n]
        To decode; at least `CONTEXT`.
    progress : callable
        Called with the share of the work that is done.
    """
    sizes = {site: np.abs(inputs) for site, inputs in decoder.all_inputs(tokens[:CONTEXT]).items()}
    ways, one_step = {}, step(dense, tokens)
    for keep in TIMED_KEEPS:
        # In turns: a decoder that runs twice in a row finds some of its weights in the cache.
        ways[f"dense before {keep}"] = one_step
        thresholds = {site: Threshold.calibrated(size, keep).threshold for site, size in sizes.items()}
        ways[str(keep)] = _with(decoder, thresholds, step(decoder, tokens))
    times = take_turns(ways, progress)
    return Payoff.of(
        times[f"dense before {TIMED_KEEPS[0]}"], {keep: times[str(keep)] for keep in TIMED_KEEPS}
    )


def _with(decoder: Any, thresholds: Mapping[str, float], way: Callable[[], None]) -> Callable[[], None]:
    def once() -> None:
        for site, threshold in thresholds.items():
            decoder.set_threshold(site, threshold)
        way()

    return once
