"""Which shortlists of layers save time on this machine: bytes alone are worth nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from shortlist.calibrate.channels import KEEPS, kind_of, unfitted_parts
from shortlist.calibrate.interleaved import seconds_in_turns
from shortlist.checkpoints.base import Checkpoint
from shortlist.models.channels import PLACES, channel_places
from shortlist.models.decoder import Decoder
from shortlist.selectors import Threshold

TIMED_KEEPS = (KEEPS[0], 0.65, KEEPS[-1])
LEAST = 0.005  # of a step: what a kind of place has to save, so that noise is not taken for it
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
    """Seconds of a decode step with all places of one kind by channel, and with none.

    Attributes
    ----------
    dense : float
    by_keep : dict of float to float
        For each share of the channels.
    """

    dense: float
    by_keep: dict[float, float]

    @property
    def largest_keep(self) -> float | None:
        """The largest share of channels with which a step is faster than dense; None where none is."""
        keeps = np.array(list(self.by_keep))
        slope, start = np.polyfit(keeps, np.array(list(self.by_keep.values())), 1)
        limit = (1 - LEAST) * self.dense
        fits = start + slope * keeps <= limit
        if not fits.any():
            return None
        return float(min((limit - start) / slope, 1.0)) if slope > 0 else 1.0


def time_channels(
    checkpoint: Checkpoint,
    make: Callable[..., Decoder],
    dense: Decoder,
    tokens: np.ndarray,
    kinds: tuple[str, ...] = tuple(PLACES),
    progress: Callable[[float], None] = lambda _: None,
) -> dict[str, Payoff]:
    """Time decode steps with the places of each kind by channel.

    Parameters
    ----------
    checkpoint : Checkpoint
        Open.
    make : callable
        The decoder of the checkpoint, with the `parts` that it is given.
    dense : Decoder
    tokens : int32 [n]
        To decode; at least `CONTEXT`.
    kinds
        Of place.
    progress : callable
        Called with the share of the work that is done.
    """
    found = {}
    for done, kind in enumerate(kinds):
        places = [place for place in channel_places(checkpoint) if kind_of(place) == kind]
        decoder = make(parts=unfitted_parts(checkpoint, places))
        sizes = {place: np.abs(x) for place, x in decoder.all_inputs(tokens[:CONTEXT]).items()}
        ways = {"dense": step(dense, tokens)}
        for keep in TIMED_KEEPS:
            thresholds = {p: Threshold.calibrated(size, keep).threshold for p, size in sizes.items()}
            ways[str(keep)] = _with(decoder, thresholds, step(decoder, tokens))
        seconds = seconds_in_turns(ways, lambda share, done=done: progress((done + share) / len(kinds)))
        found[kind] = Payoff(seconds["dense"], {keep: seconds[str(keep)] for keep in TIMED_KEEPS})
    return found


def _with(decoder: Any, thresholds: Mapping[str, float], way: Callable[[], None]) -> Callable[[], None]:
    def once() -> None:
        for place, threshold in thresholds.items():
            decoder.set_threshold(place, threshold)
        way()

    return once
