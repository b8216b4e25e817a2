"""Candidates for the input channels of a model's layers: what each saves, and what it changes in its layer.

How much a change of a layer's outputs costs in loss differs between places, but hardly between the ways to
cause a change of the same size. So a place's outputs say what every candidate changes, without running the
model, and one run with one of them says what that costs (`sensitivity.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shortlist.checkpoints.base import Checkpoint
from shortlist.estimators import Magnitude, State
from shortlist.model.decoder import Decoder
from shortlist.selectors import Threshold
from shortlist.sites.base import Part, Site, sites_of

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


def unfitted_parts(sites: Iterable[Site]) -> dict[str, Part]:
    """Parts that read all channels: they make a decoder whose inputs can be recorded."""
    return {site.name: site.part(Magnitude(weighted=False), Threshold(0.0)) for site in sites}


def fit_places(
    checkpoint: Checkpoint,
    make: Callable[..., Decoder],
    kinds: Iterable[str],
    tokens: np.ndarray,
    prefix: Sequence[int] = (),
    progress: Callable[[float], None] = lambda _: None,
    *,
    weights: str = "",
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
    prefix : sequence of int
        Tokens that every text starts with. What they, or the first token, bring is left out: some of its
        values are hundreds of times as large as those at other positions.
    progress : callable
        Called with the share of the work that is done.
    weights : {"", "q8", "q4"}
        What `make` quantizes float matrices to.
    """
    by_kind = {kind: sites_of(checkpoint, kind) for kind in kinds}
    sites = [site for some in by_kind.values() for site in some]
    decoder = make(parts=unfitted_parts(sites))
    sizes, stored = decoder.channel_bytes, decoder.place_bytes
    recorded = decoder.all_inputs(np.array([*prefix, *tokens], dtype=np.int32))
    inputs = {place: values[max(len(prefix), 1) :] for place, values in recorded.items()}
    fitted = {}
    for some in filter(None, by_kind.values()):  # layers of experts have no gate_up and no down
        compared = some[:: -(-len(some) // COMPARED_LAYERS)]
        estimator = _best_estimator(compared, inputs, weights)
        for site in some:
            more = stored[site.name] - site.nbytes(weights)
            found = weigh(site.table(weights), inputs.pop(site.name), estimator, sizes[site.name], more)
            fitted[site.name] = found
            progress(len(fitted) / len(sites))
    return fitted


def weigh(
    table: np.ndarray, inputs: np.ndarray, estimator: Magnitude, channel_bytes: float, more_bytes: float = 0.0
) -> PlaceCandidates:
    """Fit an estimator to a place and measure its candidates.

    Parameters
    ----------
    table : float32 [inputs, outputs]
    inputs : float32 [n, inputs]
    estimator : Magnitude
    channel_bytes : float
        Of one channel.
    more_bytes : float
        That all channels take more than the dense matrices, such as padding.
    """
    state = estimator.fit(table, inputs)
    scores = estimator.score(state, inputs).values
    rest_bytes = estimator.rest * sum(table.shape)  # in 8 bits
    outputs = float(np.mean(np.square(inputs @ table).sum(axis=1)))
    candidates = []
    for keep in KEEPS:
        threshold = Threshold.calibrated(scores, keep).threshold
        skipped = scores < threshold
        saved = float(skipped.mean()) * len(table) * channel_bytes - rest_bytes - more_bytes
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


def _best_estimator(sites: Iterable[Site], inputs: Mapping[str, np.ndarray], weights: str) -> Magnitude:
    """The estimator whose candidates change least where each saves `COMPARED_SAVING` of the place's bytes."""
    changes = dict.fromkeys(ESTIMATORS, 0.0)
    for site in sites:
        table = site.table(weights)
        all_bytes = site.nbytes(weights)
        for estimator in changes:
            if estimator.rest < min(table.shape):
                found = weigh(table, inputs[site.name], estimator, all_bytes / len(table)).candidates
                changes[estimator] += _at_saving(found, COMPARED_SAVING * all_bytes)
            else:
                changes[estimator] = np.inf
    return min(changes, key=lambda estimator: changes[estimator])


def _at_saving(candidates: tuple[Candidate, ...], saved: float) -> float:
    """The change at a saving, between candidates; infinite where none saves as much."""
    if not candidates or candidates[-1].saved < saved:
        return np.inf
    return float(np.interp(saved, [c.saved for c in candidates], [c.change for c in candidates]))
