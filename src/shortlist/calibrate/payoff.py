"""Which shortlists of layers save time on this machine: bytes alone are worth nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


def paying_keeps(
    checkpoint: Checkpoint,
    make: Callable[..., Decoder],
    dense: Decoder,
    tokens: np.ndarray,
    kinds: tuple[str, ...] = tuple(PLACES),
    progress: Callable[[float], None] = lambda _: None,
) -> dict[str, float]:
    """For each kind of place that pays, the largest share of channels with which decoding is faster.

    Decoded with all places of one kind by channel, and with none.

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
        keep = break_even({keep: seconds[str(keep)] for keep in TIMED_KEEPS}, (1 - LEAST) * seconds["dense"])
        if keep is not None:
            found[kind] = keep
    return found


def _with(decoder: Any, thresholds: Mapping[str, float], way: Callable[[], None]) -> Callable[[], None]:
    def once() -> None:
        for place, threshold in thresholds.items():
            decoder.set_threshold(place, threshold)
        way()

    return once


def break_even(seconds: Mapping[float, float], limit: float) -> float | None:
    """The largest keep at which a line through timed keeps stays within the limit; None where none does."""
    keeps = np.array(list(seconds))
    slope, start = np.polyfit(keeps, np.array(list(seconds.values())), 1)
    if slope <= 0:
        return float(keeps.max()) if start + slope * keeps.max() <= limit else None
    keep = (limit - start) / slope
    return float(min(keep, 1.0)) if keep >= keeps.min() else None
