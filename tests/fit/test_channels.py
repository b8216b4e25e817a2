"""Candidates of a site: shares that are what they say, changes that are those of the outputs, prices."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from builders import tiny_gguf

from shortlist import checkpoints
from shortlist.estimators import Exact, Magnitude
from shortlist.fit import channels
from shortlist.fit.channels import KEEPS, ChannelTuner, Fitted, fit_sites, prices, unfitted_parts
from shortlist.fit.channels import weigh as weigh_site
from shortlist.fit.payoff import Payoff
from shortlist.fit.spend import Candidate, steps_by_price
from shortlist.measure.interleaved import Times
from shortlist.model.decoder import Decoder
from shortlist.recipe import Recipe
from shortlist.selectors import Threshold
from shortlist.sites.base import Part, sites_of
from shortlist.sites.neurons import FIRES

INPUTS, OUTPUTS, TOKENS = 48, 80, 200


def weigh(table, inputs, estimator, channel_bytes):
    def part(*what):
        return Part(what[0], what[1], INPUTS, OUTPUTS, what[2])

    site: Any = SimpleNamespace(name="layers.0.o", part=part)
    return weigh_site(site, table, inputs, estimator, channel_bytes)


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

        def make(parts):
            return Decoder(checkpoint, threads=1, parts=parts)

        sites = sites_of(checkpoint, "down")
        fitted = fit_sites(sites, make(unfitted_parts(sites)), tokens)
        assert set(fitted) == {"layers.0.down", "layers.1.down"}
        for site, found in fitted.items():
            for candidate in found.candidates:
                dense, decoder = make({}), make({site: found.at(candidate)})
                for some in (dense, decoder):
                    some.forward(tokens, some.new_cache(len(tokens)))  # the first one is not fitted to
                saved = dense.layer_bytes - decoder.layer_bytes
                # Scales are read while any of their 32 channels is; here nearly always one is.
                assert saved == pytest.approx(candidate.saved, rel=0.05, abs=60)
    assert any(found.candidates for found in fitted.values())


LOSS = {"layers.0.o": 3.0, "layers.1.o": 0.5}  # nats for each unit of threshold


class Thresholds:
    def __init__(self):
        self.now, self.seen = dict.fromkeys(LOSS, 0.0), []

    def set_threshold(self, site, value):
        self.now[site] = value


class Reference:
    def measure(self, decoder):
        decoder.seen.append(dict(decoder.now))
        return SimpleNamespace(divergence=sum(LOSS[site] * value for site, value in decoder.now.items()))


@pytest.fixture
def fitted():
    part: Any = None
    return {
        site: Fitted(
            part,
            tuple(
                Candidate(site, keep, 100 * (1 - keep), np.nan, 1 - keep, (1 - keep) / 2)
                for keep in (0.9, 0.55, 0.4)
            ),
        )
        for site in LOSS
    }


def test_a_candidate_is_expected_to_cost_its_change_times_the_sensitivity_of_its_site(fitted):
    fitted["layers.2.o"] = Fitted(fitted["layers.0.o"].part, ())
    decoder, heard = Thresholds(), []
    found = prices(fitted, decoder, Reference(), heard.append)
    # Each site is measured once and alone, with the share nearest to 0.6.
    assert decoder.seen == [
        {"layers.0.o": pytest.approx(0.45), "layers.1.o": 0.0},
        {"layers.0.o": 0.0, "layers.1.o": pytest.approx(0.45)},
    ]
    assert decoder.now == dict.fromkeys(LOSS, 0.0)
    assert [(each.site, each.keep) for each in found] == [(s, k) for s in LOSS for k in (0.9, 0.55, 0.4)]
    for each in found:
        assert each.loss == pytest.approx(LOSS[each.site] * (1 - each.keep))
        assert each.saved == pytest.approx(100 * each.threshold)
    assert heard == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_no_gain_is_believed_and_thresholds_are_0_after_an_interrupt(fitted):
    class Better:
        def measure(self, decoder):
            return SimpleNamespace(divergence=-1.0)

    assert {each.loss for each in prices(fitted, Thresholds(), Better())} == {0.0}

    class Interrupted:
        def measure(self, decoder):
            raise KeyboardInterrupt

    decoder = Thresholds()
    with pytest.raises(KeyboardInterrupt):
        prices(fitted, decoder, Interrupted())
    assert decoder.now == dict.fromkeys(LOSS, 0.0)


def tuner_of(checkpoint=None):
    """A tuner whose decoders are the sites that they have a shortlist at."""
    work: Any = SimpleNamespace(
        checkpoint=checkpoint,
        decoder=lambda sites: {name for name, part in sites.items() if part},
        tokens=np.arange(9),
        stage=lambda name: lambda share: None,
    )
    return ChannelTuner(work)


def recipe(**sites):
    parts = {f"layers.0.{kind}": part and Part(*part, 9, 9, {}) for kind, part in sites.items()}
    return Recipe("tiny", "f00d", {"head": None, **parts})


BY_CHANNEL = (Magnitude(False), Threshold(0.5))


@pytest.mark.parametrize(("seconds", "pays"), [(0.9, True), (0.999, False), (1.0, False), (1.1, False)])
def test_channels_pay_where_decoding_with_all_of_them_is_faster(monkeypatch, seconds, pays):
    def take_turns(ways, *_):
        taken = {name: seconds if "layers.0.o" in sites else 1.0 for name, sites in ways.items()}
        return {name: Times(np.full(24, each)) for name, each in taken.items()}

    monkeypatch.setattr(channels, "step", lambda decoder, tokens: decoder)
    monkeypatch.setattr(channels, "take_turns", take_turns)
    assert tuner_of().pays(recipe(qkv=BY_CHANNEL), recipe(qkv=BY_CHANNEL, o=BY_CHANNEL)) == pays


class Stop(Exception):
    pass


def stop(sites, *_args, **_options):
    raise Stop(sites)


@pytest.mark.parametrize("with_neurons", [False, True])
def test_kinds_are_timed_beside_what_was_found_before(tmp_path, monkeypatch, with_neurons):
    timed = []

    def time_channels(without, decoder, tokens, report):
        timed.append((without, decoder - without))
        return Payoff(2.0, {0.9: 1.0}, {0: 0.9, 1: None}[len(timed) % 2])

    monkeypatch.setattr(channels, "time_channels", time_channels)
    monkeypatch.setattr(channels, "fit_sites", stop)
    tiny_gguf("arcee", tmp_path / "tiny.gguf", "Q8_0")
    base = recipe(neurons=(Exact(), Threshold(FIRES)) if with_neurons else None)
    with checkpoints.open_checkpoint(tmp_path / "tiny.gguf") as checkpoint:
        tuner = tuner_of(checkpoint)
        tuner.work.prefix, tuner.work.weights = [], ""
        with pytest.raises(Stop) as fitted:
            next(tuner.changes(base, 1.0))
    kinds = ["qkv", "o"] if with_neurons else ["qkv", "o", "gate_up", "down"]
    assert timed == [
        ({"layers.0.neurons"} if with_neurons else set(), {f"layers.0.{kind}", f"layers.1.{kind}"})
        for kind in kinds
    ]
    assert list(tuner.notes["channel_seconds"]) == kinds
    assert tuner.notes["channel_seconds"]["o"] == {"dense": 2.0, "by_keep": {0.9: 1.0}, "largest_keep": 0.9}
    assert {site.kind for site in fitted.value.args[0]} == set(kinds[1::2]), "only kinds that pay are fitted"


def test_a_change_is_lowered_to_steps_that_cost_less(fitted):
    tuner = tuner_of()
    tuner._fitted = {
        site: Fitted(Part(*BY_CHANNEL, 9, 9, {}), some.candidates) for site, some in fitted.items()
    }
    steps = steps_by_price(prices(fitted, Thresholds(), Reference()))
    change = tuner._change(steps, 5.0)
    assert change.parts.keys() == change.measured["places"].keys() == set(LOSS)
    assert change.parts["layers.1.o"].selector == Threshold(pytest.approx(0.6))
    fewer = tuner.lower(change)
    assert fewer is not None
    assert fewer.loss == pytest.approx(sum(step.loss for step in fewer.steps))
    assert fewer.loss <= 0.7 * sum(step.loss for step in steps)
    assert list(fewer.steps) == steps[: len(fewer.steps)]
    assert tuner.lower(tuner._change(steps[:1], 5.0)) is None


@pytest.mark.parametrize(("agreement", "loss"), [(0.9, 0.35), (0.89, np.inf)])
def test_a_combination_is_measured_with_all_its_thresholds(fitted, agreement, loss):
    tuner, decoder = tuner_of(), Thresholds()
    tuner.work.min_agreement = 0.9
    steps = steps_by_price(prices(fitted, Thresholds(), Reference()))

    def measure(decoder, report):
        decoder.seen.append(dict(decoder.now))
        return SimpleNamespace(divergence=0.35, agreement=agreement)

    reference: Any = SimpleNamespace(measure=measure)
    assert tuner._loss(steps, decoder, reference) == loss
    assert decoder.seen == [{"layers.0.o": pytest.approx(0.6), "layers.1.o": pytest.approx(0.6)}]
    assert decoder.now == dict.fromkeys(LOSS, 0.0)
