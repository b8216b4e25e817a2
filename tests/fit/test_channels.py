"""Candidates of a place: shares that are what they say, and changes that are those of the outputs."""

import dataclasses

import numpy as np
import pytest
from builders import tiny_gguf

from shortlist import checkpoints
from shortlist.estimators import Magnitude
from shortlist.fit.channels import KEEPS, fit_places, weigh
from shortlist.model.decoder import Decoder
from shortlist.selectors import Threshold

INPUTS, OUTPUTS, TOKENS = 48, 80, 200


@pytest.fixture
def place():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(INPUTS, OUTPUTS)) * rng.uniform(0.1, 2, (INPUTS, 1))
    return table.astype(np.float32), rng.laplace(size=(TOKENS, INPUTS)).astype(np.float32)


@pytest.mark.parametrize("estimator", [Magnitude(False), Magnitude(True), Magnitude(True, rest=4)])
def test_candidates_change_what_their_shortlists_change(place, estimator):
    table, inputs = place
    found = weigh(table, inputs, estimator, channel_bytes=100.0)
    state = found.part.state
    scores = np.abs(inputs) * state.get("norms", 1)
    for candidate, keep in zip(found.candidates[::-1], KEEPS[::-1], strict=False):
        listed = scores >= candidate.threshold
        assert candidate.keep == pytest.approx(keep, abs=1e-3)
        assert candidate.keep == pytest.approx(listed.mean())
        rest = 4 * (INPUTS + OUTPUTS) if estimator.rest else 0
        assert candidate.saved == pytest.approx((1 - listed.mean()) * INPUTS * 100 - rest)
        outputs = np.where(listed, inputs, 0) @ table
        if estimator.rest:
            outputs += np.where(listed, 0, inputs) @ state["inner"].T @ state["outer"].T
        error = np.square(outputs - inputs @ table).sum() / np.square(inputs @ table).sum()
        assert candidate.change == pytest.approx(error, rel=1e-2)


def test_fewer_channels_save_more_and_change_more(place):
    candidates = weigh(*place, Magnitude(True), channel_bytes=100.0).candidates
    assert len(candidates) == len(KEEPS)
    for fewer, more in zip(candidates[1:], candidates, strict=False):
        assert fewer.saved > more.saved
        assert fewer.change > more.change
        assert fewer.threshold > more.threshold


def test_weights_count_where_they_differ(place):
    plain, weighted = (weigh(*place, Magnitude(w), channel_bytes=1.0).candidates for w in (False, True))
    assert all(a.change > b.change for a, b in zip(plain, weighted, strict=True))


@pytest.mark.parametrize("type", ["Q8_0", "Q4_0", "Q5_0", "F32"])
def test_what_is_saved_is_what_a_decoder_saves(tmp_path, type):
    tiny_gguf("llama", tmp_path / "tiny.gguf", type)
    tokens = np.arange(100, 160, dtype=np.int32)
    with checkpoints.open_checkpoint(tmp_path / "tiny.gguf") as checkpoint:

        def make(**options):
            return Decoder(checkpoint, threads=1, **options)

        fitted = fit_places(checkpoint, make, ("down",), tokens)
        assert set(fitted) == {"layers.0.down", "layers.1.down"}
        for place, found in fitted.items():
            for candidate in found.candidates:
                part = dataclasses.replace(found.part, selector=Threshold(candidate.threshold))
                dense, decoder = make(), make(parts={place: part})
                for some in (dense, decoder):
                    some.forward(tokens, some.new_cache(len(tokens)))  # the first one is not fitted to
                saved = dense.layer_bytes - decoder.layer_bytes
                # Scales are read while any of their 32 channels is; here nearly always one is.
                assert saved == pytest.approx(candidate.saved, rel=0.05, abs=60)
    assert any(found.candidates for found in fitted.values())
