"""What a place tolerates is measured one place at a time, and all thresholds are 0 again afterwards."""

from types import SimpleNamespace
from typing import Any

import pytest

from shortlist.fit.channels import Candidate, PlaceCandidates
from shortlist.fit.sensitivity import options, sensitivities

LOSS = {"layers.0.o": 3.0, "layers.1.o": 0.5}  # nats for each unit of threshold


class Decoder:
    def __init__(self):
        self.thresholds = dict.fromkeys(LOSS, 0.0)

    def set_threshold(self, place, value):
        self.thresholds[place] = value


class Reference:
    def measure(self, decoder):
        found = sum(LOSS[place] * threshold for place, threshold in decoder.thresholds.items())
        return SimpleNamespace(divergence=found)


@pytest.fixture
def fitted():
    candidates = tuple(
        Candidate(keep, 1 - keep, 100 * (1 - keep), (1 - keep) / 2) for keep in (0.9, 0.55, 0.4)
    )
    part: Any = None
    return {place: PlaceCandidates(part, candidates) for place in LOSS}


def test_each_place_is_measured_alone(fitted):
    decoder, heard = Decoder(), []
    found = sensitivities(fitted, decoder, Reference(), heard.append)
    # With 0.55 kept the threshold is 0.45 and the change 0.225.
    assert found == pytest.approx({place: 2 * loss for place, loss in LOSS.items()})
    assert decoder.thresholds == dict.fromkeys(LOSS, 0.0)
    assert heard == [0.5, 1.0]


def test_an_option_is_expected_to_cost_its_change_times_the_sensitivity(fitted):
    found = options(fitted, {"layers.0.o": 6.0, "layers.1.o": 1.0})
    assert len(found) == 6
    for option in found:
        assert option.loss == pytest.approx(LOSS[option.place] * (1 - option.keep))
        assert option.saved == pytest.approx(100 * option.threshold)


def test_a_place_without_candidates_is_left_out(fitted):
    fitted["layers.2.o"] = PlaceCandidates(fitted["layers.0.o"].part, ())
    decoder, heard = Decoder(), []
    found = sensitivities(fitted, decoder, Reference(), heard.append)
    assert set(found) == set(LOSS)
    assert len(options(fitted, found)) == 6
