"""How much each place of a model tolerates: the loss that a change of its outputs costs.

The gradient of the loss with respect to a layer's input would say how much error the layer tolerates (input
smoothness, https://arxiv.org/abs/2105.13462). There is no autograd here, so it is a finite difference, and
the perturbation is a candidate's own: one place at a time leaves channels out, and the divergence that this
causes is set against the change of the place's outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from shortlist.fit.channels import Candidate, PlaceCandidates
from shortlist.fit.spend import Option
from shortlist.measure.reference import Reference

PROBED_KEEP = 0.6  # enough left out to be seen, little enough for the loss to grow as it does near dense


def sensitivities(
    fitted: Mapping[str, PlaceCandidates],
    decoder: Any,
    reference: Reference,
    progress: Callable[[float], None] = lambda _: None,
) -> dict[str, float]:
    """Nats of divergence per relative squared change of the outputs of each place.

    Parameters
    ----------
    fitted : mapping of str to PlaceCandidates
    decoder : Decoder
        With all of these places by channel, and thresholds of 0.
    reference : Reference
    progress : callable
        Called with the share of the work that is done.
    """
    found = {}
    for place, some in fitted.items():
        if some.candidates:
            probe = min(some.candidates, key=lambda candidate: abs(candidate.keep - PROBED_KEEP))
            found[place] = _divergence(decoder, place, probe, reference) / max(probe.change, 1e-12)
        progress(len(found) / len(fitted))
    return found


def _divergence(decoder: Any, place: str, probe: Candidate, reference: Reference) -> float:
    decoder.set_threshold(place, probe.threshold)
    try:
        return max(reference.measure(decoder).divergence, 0.0)
    finally:
        decoder.set_threshold(place, 0.0)


def options(fitted: Mapping[str, PlaceCandidates], tolerance: Mapping[str, float]) -> list[Option]:
    """Every candidate, with the loss that the sensitivity of its place lets expect."""
    return [
        Option(
            place, candidate.keep, candidate.saved, tolerance[place] * candidate.change, candidate.threshold
        )
        for place, some in fitted.items()
        for candidate in some.candidates
    ]
