"""Candidates for the input channels of a model's layers: what each saves, and what it changes in its layer.

How much a change of a layer's outputs costs in loss differs between places, but hardly between the ways to
cause a change of the same size. So a place's outputs say what every candidate changes, without running the
model, and one run with one of them says what that costs (`sensitivity.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from shortlist.checkpoints.base import Checkpoint
from shortlist.estimators import Magnitude, State
from shortlist.models.channels import channel_places, matrices_of, place_table
from shortlist.models.decoder import Decoder
from shortlist.recipe import Part
from shortlist.selectors import Threshold

KEEPS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
ESTIMATORS = (Magnitude(weighted=False), Magnitude(weighted=True), Magnitude(weighted=True, rest=16))
COMPARED_SAVING = 0.35  # share of a place's bytes at which estimators are compared
COMPARED_LAYERS = 3


@dataclass(frozen=True)
class Candidate:
    """A share of a place's channels.

    Attributes
    ----------
    keep : float
        Share of the channels that were read, on average.
    threshold : float
    saved : float
        Bytes per token, against all channels.
    change : float
        Mean squared length of what that changes in the outputs of the place, over that of the outputs.
    """

    keep: float
    threshold: float
    saved: float
    change: float


@dataclass(frozen=True)
class PlaceCandidates:
    """An estimator that was fitted to a place, and what its thresholds do."""

    part: Part
    candidates: tuple[Candidate, ...]


def kind_of(place: str) -> str:
    """`down` of `layers.3.down`."""
    return place.rpartition(".")[2]


def layer_of(place: str) -> int:
    """3 of `layers.3.down`."""
    return int(place.split(".")[1])


def unfitted_parts(checkpoint: Checkpoint, places: Iterable[str]) -> dict[str, Part]:
    """Parts that read all channels: they make a decoder whose inputs can be recorded."""
    parts = {}
    for place in places:
        shapes = [checkpoint.tensors[name].shape for name in matrices_of(checkpoint, place)]
        units, width = shapes[0][1], sum(rows for rows, _ in shapes)
        parts[place] = Part(Magnitude(weighted=False), Threshold(0.0), units, width, {})
    return parts


def fit_places(
    checkpoint: Checkpoint,
    make: Callable[..., Decoder],
    kinds: Iterable[str],
    tokens: np.ndarray,
    progress: Callable[[float], None] = lambda _: None,
) -> dict[str, PlaceCandidates]:
    """Fit every place of some kinds to the inputs that a text brings to it.

    The estimator of a kind is the one that changes the outputs least in a few of its layers, at equal bytes.

    Parameters
    ----------
    checkpoint : Checkpoint
        Open.
    make : callable
        The decoder of the checkpoint, with the `parts` that it is given.
    kinds : iterable of str
        Of `qkv`, `o`, `gate_up`, `down`.
    tokens : int [n]
    progress : callable
        Called with the share of the work that is done.
    """
    by_kind = {kind: [p for p in channel_places(checkpoint) if kind_of(p) == kind] for kind in kinds}
    places = [place for some in by_kind.values() for place in some]
    decoder = make(parts=unfitted_parts(checkpoint, places))
    inputs, sizes = decoder.all_inputs(tokens), decoder.channel_bytes
    fitted = {}
    for some in by_kind.values():
        compared = some[:: -(-len(some) // COMPARED_LAYERS)]
        estimator = _best_estimator(checkpoint, compared, inputs)
        for place in some:
            table = place_table(checkpoint, place)
            fitted[place] = weigh(table, inputs.pop(place), estimator, sizes[place])
            progress(len(fitted) / len(places))
    return fitted


def weigh(
    table: np.ndarray, inputs: np.ndarray, estimator: Magnitude, channel_bytes: float
) -> PlaceCandidates:
    """Fit an estimator to a place and measure its candidates.

    Parameters
    ----------
    table : float32 [inputs, outputs]
    inputs : float32 [n, inputs]
    estimator : Magnitude
    channel_bytes : float
        Of one channel.
    """
    state = estimator.fit(table, inputs)
    scores = estimator.estimate(state, inputs).values
    rest_bytes = estimator.rest * sum(table.shape)  # in 8 bits
    outputs = float(np.mean(np.square(inputs @ table).sum(axis=1)))
    candidates = []
    for keep in KEEPS:
        threshold = Threshold.calibrated(scores, keep).threshold
        skipped = scores < threshold
        saved = float(skipped.mean()) * len(table) * channel_bytes - rest_bytes
        change = _change(table, np.where(skipped, inputs, 0), state) / outputs if outputs else 0.0
        candidates.append(Candidate(1 - float(skipped.mean()), threshold, saved, change))
    units, width = table.shape
    part = Part(estimator, Threshold(0.0), units, width, state)
    return PlaceCandidates(part, tuple(candidate for candidate in candidates if candidate.saved > 0))


def _change(table: np.ndarray, skipped: np.ndarray, state: State) -> float:
    """Mean squared length of what skipped inputs [n, inputs] would have added, less what stands for it."""
    missing = skipped @ table
    if "outer" in state:
        missing -= skipped @ state["inner"].T.astype(np.float32) @ state["outer"].T.astype(np.float32)
    return float(np.mean(np.square(missing).sum(axis=1)))


def _best_estimator(
    checkpoint: Checkpoint, places: Iterable[str], inputs: Mapping[str, np.ndarray]
) -> Magnitude:
    """The estimator whose candidates change least where each saves `COMPARED_SAVING` of the place's bytes."""
    changes = dict.fromkeys(ESTIMATORS, 0.0)
    for place in places:
        table = place_table(checkpoint, place)
        channel_bytes = sum(checkpoint.tensors[name].data.nbytes for name in matrices_of(checkpoint, place))
        for estimator in changes:
            if estimator.rest < min(table.shape):
                found = weigh(table, inputs[place], estimator, channel_bytes / len(table)).candidates
                changes[estimator] += _at_saving(found, COMPARED_SAVING * channel_bytes)
            else:
                changes[estimator] = np.inf
    return min(changes, key=lambda estimator: changes[estimator])


def _at_saving(candidates: tuple[Candidate, ...], saved: float) -> float:
    """The change at a saving, between candidates; infinite where none saves as much."""
    if not candidates or candidates[-1].saved < saved:
        return np.inf
    return float(np.interp(saved, [c.saved for c in candidates], [c.change for c in candidates]))
