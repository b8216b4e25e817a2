"""Tuning a tiny model: a recipe that holds on text it was not tuned on, or the best so far."""

import dataclasses
import math

import numpy as np
import pytest
from builders import tiny_gguf

import shortlist
from shortlist import checkpoints
from shortlist import recipe as recipes
from shortlist.errors import UsageError
from shortlist.fit import channels, head, neurons
from shortlist.fit.channels import ChannelTuner
from shortlist.fit.payoff import Payoff
from shortlist.fit.search import Search
from shortlist.fit.tune import Goal, tune
from shortlist.fit.tuner import Work
from shortlist.fit.verify import Verifier
from shortlist.measure.interleaved import Times
from shortlist.measure.on_text import Pair, compare_on_text
from shortlist.model.tokenizer.tokenizer import Tokenizer

GOAL = Goal(max_perplexity=0.05)


@pytest.fixture(scope="module")
def text():
    words = ["the", "cat", "and", "a", "dog", "saw", "bird", "in", "of"]
    return " ".join(np.random.default_rng(0).choice(words, 420))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    tiny_gguf("llama", path, "Q8_0")
    return path


@pytest.fixture
def opened(path):
    with checkpoints.open_checkpoint(path) as checkpoint:
        yield checkpoint


KINDS = {
    "qkv": Payoff(1.0, {0.9: 0.9, 0.4: 0.4}, 0.9),
    "o": Payoff(1.0, {0.9: 1.1, 0.4: 1.01}, None),
    "gate_up": Payoff(1.0, {0.9: 1.1, 0.4: 1.01}, None),
    "down": Payoff(1.0, {0.9: 1.05, 0.85: 0.99, 0.4: 0.55}, 0.85),
}


def kind_of(decoder):
    (kind,) = {site.rpartition(".")[2] for site in decoder.channels_read}
    return kind


@pytest.fixture
def everything_pays(monkeypatch):
    """Tiny layers are no faster by channel: say that they are."""
    monkeypatch.setattr(channels, "time_channels", lambda _, decoder, *_args: KINDS[kind_of(decoder)])
    monkeypatch.setattr(ChannelTuner, "pays", lambda *_: True)


@pytest.fixture
def no_channel_pays(monkeypatch):
    monkeypatch.setattr(channels, "time_channels", lambda *_: Payoff(1.0, {0.4: 1.0}, None))


def take(monkeypatch, **seconds):
    """Every way takes these seconds."""
    times = {name: Times(np.full(8, value)) for name, value in seconds.items()}
    for module in (neurons, head):
        monkeypatch.setattr(module, "take_turns", lambda ways, *_args: {way: times[way] for way in ways})


def run(checkpoint, text, goal=GOAL, report=lambda *_: None):
    return tune(
        checkpoint, Tokenizer.from_checkpoint(checkpoint), "tiny", text, goal, threads=1, report=report
    )


@pytest.mark.usefixtures("everything_pays")
def test_the_recipe_holds_on_text_that_it_was_not_tuned_on(opened, path, text, tmp_path):
    stages = []
    tuned = run(opened, text, report=lambda stage, share: stages.append(stage))
    assert (tuned.verified, tuned.interrupted) == (True, False)
    assert stages[-1] == "verify"
    places = tuned.recipe.measured["places"]
    assert set(places) == shortlisted_layers(tuned)
    assert places, "some channels are cheap"
    assert {place.rpartition(".")[2] for place in places} <= {"qkv", "down"}
    assert all(figures["keep"] <= 0.85 for place, figures in places.items() if place.endswith("down"))

    frontier = tuned.recipe.measured["frontier"]
    assert frontier[0]["name"] == "dense"
    assert (frontier[0]["perplexity_change"], frontier[0]["agreement"]) == (0.0, 1.0)
    assert frontier[-1]["name"].endswith(f"{len(places)} sites by channel")
    assert all(point["tokens_per_s"] > 0 for point in frontier)

    recipes.save(tuned.recipe, tmp_path)
    whole = tuned.recipe.measured["whole"]
    with (
        shortlist.load(path, recipe=tmp_path, threads=1) as model,
        shortlist.load(path, head="dense", ffn="dense", threads=1) as dense,
    ):
        assert set(model.decoder.channels_read) == set(places)
        tokens = model.tokenizer.encode(text[len(text) // 2 :], add_special=False)
        quality = compare_on_text(
            tokens,
            model.tokenizer.encode(""),
            Pair(dense.decoder, dense.head),
            Pair(model.decoder, model.head),
        )
    assert GOAL.holds(quality)
    assert quality.shortlisted.perplexity_change == pytest.approx(whole["shortlisted"]["perplexity_change"])
    assert quality.shortlisted.bytes_per_token < quality.dense.bytes_per_token


@pytest.mark.usefixtures("everything_pays")
def test_a_smaller_budget_saves_less(opened, text):
    saved = []
    for share in (0.2, 0.02, 0.0001):
        tuned = run(opened, text, Goal(share))
        places = tuned.recipe.measured.get("places", {})
        saved.append(sum(figures["saved_bytes"] for figures in places.values()))
    assert saved[0] > saved[1] > saved[2]


@pytest.mark.usefixtures("everything_pays")
def test_agreement_limits_too(opened, text):
    loose, strict = (run(opened, text, Goal(0.5, min_agreement=share)) for share in (0.0, 0.99))
    assert len(strict.recipe.shortlisted) < len(loose.recipe.shortlisted)
    assert strict.recipe.measured["whole"]["shortlisted"]["agreement"] >= 0.99


@pytest.mark.usefixtures("no_channel_pays")
def test_dense_wins_where_nothing_pays(opened, text, monkeypatch):
    take(monkeypatch, dense=1.0, exact=2.0)
    tuned = run(opened, text)
    assert (dict(tuned.recipe.sites), tuned.found) == ({"head": None}, False)
    assert tuned.verified
    assert tuned.recipe.measured["whole"]["shortlisted"]["perplexity_change"] == 0


@pytest.mark.usefixtures("everything_pays")
def test_channels_that_are_no_faster_in_the_end_are_left_out(opened, text, monkeypatch):
    monkeypatch.setattr(ChannelTuner, "pays", lambda *_: False)
    assert not shortlisted_layers(run(opened, text))


def shortlisted_layers(tuned):
    return tuned.recipe.shortlisted.keys() - {"head"}


def press_ctrl_c(*_):
    raise KeyboardInterrupt


@pytest.mark.usefixtures("everything_pays")
@pytest.mark.parametrize(
    ("during", "has_channels"), [((Work, "reference"), False), ((ChannelTuner, "pays"), True)]
)
def test_ctrl_c_keeps_and_verifies_the_best_so_far(opened, text, monkeypatch, during, has_channels):
    monkeypatch.setattr(*during, press_ctrl_c)
    tuned = run(opened, text, Goal(0.5))
    assert (tuned.verified, tuned.interrupted) == (True, True)
    assert bool(shortlisted_layers(tuned)) == has_channels


def test_a_second_ctrl_c_keeps_it_unverified(opened, text, monkeypatch, tmp_path):
    monkeypatch.setattr(Search, "run", press_ctrl_c)
    monkeypatch.setattr("shortlist.fit.tune.Verifier.measure", press_ctrl_c)
    tuned = run(opened, text, Goal(0.5))
    assert (tuned.verified, tuned.interrupted) == (False, True)
    assert "whole" not in tuned.recipe.measured
    recipes.save(tuned.recipe, tmp_path)
    assert recipes.load(tmp_path, opened.fingerprint).measured["tuned"]["verified"] is False


def test_the_search_ends_in_time(opened, text, monkeypatch):
    now = iter(np.arange(0, 1000, 0.5))
    monkeypatch.setattr("shortlist.fit.tune.monotonic", lambda: float(next(now)))
    heard = []
    tuned = run(opened, text, Goal(0.05, max_seconds=5), report=lambda stage, share: heard.append(stage))
    assert 3 <= len([stage for stage in heard if stage != "verify"]) <= 8
    assert (tuned.verified, tuned.out_of_time, tuned.interrupted) == (True, True, False)
    assert tuned.recipe.measured["tuned"]["out_of_time"] is True
    assert tuned.recipe.measured["whole"]["tokens"] >= 500
    assert "frontier" not in tuned.recipe.measured, "no time was left"


@pytest.mark.usefixtures("everything_pays")
def test_out_of_time_a_recipe_that_does_not_hold_becomes_all_dense(opened, text, monkeypatch):
    seconds = [0.0]
    monkeypatch.setattr("shortlist.fit.tune.monotonic", lambda: seconds[0])
    measured = []
    measure = Verifier.measure

    def slow(self, recipe, deadline):
        assert deadline == 85
        measured.append(recipe)
        seconds[0] = 90.0
        return measure(self, recipe, deadline)

    monkeypatch.setattr(Verifier, "measure", slow)
    monkeypatch.setattr(Goal, "holds", lambda self, quality: len(measured) > 1)
    tuned = run(opened, text, Goal(0.5, max_seconds=100))
    assert len(measured[0].shortlisted) > 1
    assert not measured[1].shortlisted
    assert not tuned.found


@pytest.mark.usefixtures("no_channel_pays")
def test_the_frontier_is_left_out_where_the_time_ends_on_the_way(opened, text, monkeypatch):
    take(monkeypatch, dense=1.0, exact=2.0)
    monkeypatch.setattr("shortlist.fit.verify.monotonic", lambda: math.inf)
    tuned = run(opened, text, Goal(0.05, max_seconds=10_000))
    assert tuned.verified
    assert not tuned.out_of_time
    assert "frontier" not in tuned.recipe.measured


@pytest.mark.usefixtures("everything_pays")
def test_a_recipe_that_does_not_hold_is_lowered(opened, text, monkeypatch):
    parts = []
    answers = iter([False, False, True])

    def holds(self, quality):
        parts.append(quality.shortlisted.bytes_per_token)
        return next(answers)

    monkeypatch.setattr(Goal, "holds", holds)
    run(opened, text, Goal(0.5))
    assert parts == sorted(parts)
    assert len(set(parts)) == 3


@pytest.mark.usefixtures("no_channel_pays")
def test_relu_neurons_are_shortlisted_where_that_is_faster(tmp_path, text, monkeypatch):
    tiny_gguf("llama", tmp_path / "relu.gguf", hidden_act="relu")
    take(monkeypatch, dense=3.0, exact=1.0, estimated=2.0)
    with checkpoints.open_checkpoint(tmp_path / "relu.gguf") as checkpoint:
        config = dataclasses.replace(checkpoint.config, activation="relu")
        monkeypatch.setattr(checkpoint, "config", config)
        tuned = run(checkpoint, text)
    assert {site: part and part.way for site, part in tuned.recipe.sites.items()} == {
        "head": None,
        "layers.0.neurons": "exact",
        "layers.1.neurons": "exact",
    }
    assert tuned.recipe.measured["whole"]["shortlisted"]["agreement"] == 1


def test_short_text_is_refused(opened):
    with pytest.raises(UsageError, match="tokens and 1024 are needed"):
        run(opened, "the cat")


@pytest.mark.parametrize(
    "options",
    [
        {"max_perplexity": 0.0},
        {"max_perplexity": 1.1},
        {"max_perplexity": 0.1, "min_agreement": 1.1},
        {"max_perplexity": 0.1, "max_seconds": 0},
        {"max_perplexity": float("nan")},
    ],
)
def test_goals_out_of_range(options):
    with pytest.raises(UsageError):
        Goal(**options)
