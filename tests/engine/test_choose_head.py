import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from shortlist import _native
from shortlist import recipe as recipes
from shortlist.engine import choose_head as module
from shortlist.engine.choose_head import choose_head
from shortlist.errors import RecipeError, UsageError
from shortlist.estimators import LowRank
from shortlist.recipe import Part, Recipe
from shortlist.selectors import Confidence, TopK

UNITS, WIDTH = 512, 96


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path))
    monkeypatch.setattr(module, "head_recipe", lambda decoder, *_args, **_options: fitted(decoder))


def decoder(format="q8", layer_bytes=0, width=WIDTH):
    table = np.random.default_rng(0).normal(size=(UNITS, width)).astype(np.float32)
    rows = _native.Rows.pack(table.view(np.uint8).reshape(-1), "F32", UNITS, width, format)
    return SimpleNamespace(head_rows=rows, layer_bytes=layer_bytes, fingerprint="f" * 64, logit_cap=None)


def fitted(decoder, selector=None, exact_seconds=2.0, place="head"):
    estimator = LowRank(rank=32)
    queries = np.random.default_rng(1).normal(size=(200, WIDTH)).astype(np.float32)
    part = Part(estimator, selector or Confidence(), UNITS, WIDTH, estimator.fit(decoder.head_rows, queries))
    measured = {"head": {"seconds_per_token": {"estimated": 1.0, "exact": exact_seconds}}}
    return Recipe("tiny", decoder.fingerprint, {place: part}, measured)


def choose(name, decoder, **options) -> Any:
    tokenizer: Any = None  # only fitting needs it
    return choose_head(name, decoder, tokenizer, "tiny", **options)


@pytest.mark.parametrize("name", ["dense", "estimated", "exact"])
def test_the_head_that_was_asked_for(name):
    choice = choose(name, decoder())
    assert choice.head.name == name
    assert (choice.recipe is not None) == (name == "estimated")
    assert choice.reason == ""


def test_auto_takes_exact_where_it_costs_little():
    # The head is a small part of what a token reads, so reading half of it instead of a tenth hardly matters.
    choice = choose("auto", decoder(layer_bytes=1_000_000))
    assert choice.head.name == "exact"
    assert choice.recipe is None, "none was fitted"
    assert "times the bytes" in choice.reason


def test_auto_takes_estimated_where_exact_costs_more():
    choice = choose("auto", decoder())
    assert choice.head.name == "estimated"
    assert choice.recipe is not None


@pytest.mark.parametrize(("seconds", "expected"), [(1.09, "exact"), (1.11, "estimated")])
@pytest.mark.parametrize("stored", [True, False])
def test_auto_believes_what_the_recipe_measured(seconds, expected, stored, monkeypatch):
    recipe = fitted(decoder(), exact_seconds=seconds)
    if stored:
        recipes.save(recipe, recipes.default_folder(recipe.fingerprint))
    monkeypatch.setattr(module, "head_recipe", lambda *_args, **_options: recipe)
    choice = choose("auto", decoder())
    assert choice.head.name == expected
    assert choice.recipe is not None
    assert f"took {seconds:.2f} times" in choice.reason


def test_auto_takes_estimated_where_a_recipe_timed_nothing():
    recipe = fitted(decoder())
    recipe.measured["head"].clear()
    recipes.save(recipe, recipes.default_folder(recipe.fingerprint))
    choice = choose("auto", decoder())
    assert choice.head.name == "estimated"
    assert "does not know" in choice.reason


def test_a_head_that_is_not_in_8_bits_has_no_exact_form():
    floats = decoder(format="", layer_bytes=1_000_000)
    assert choose("auto", floats).head.name == "estimated"
    with pytest.raises(UsageError, match="8 bits"):
        choose("exact", floats)


@pytest.mark.parametrize(("format", "expected"), [("q8", "exact"), ("", "dense")])
def test_auto_does_not_estimate_a_narrow_head(format, expected):
    choice = choose("auto", decoder(format, width=min(module.RANKS)))
    assert choice.head.name == expected
    assert "too narrow" in choice.reason


def test_a_named_recipe_is_used():
    choice = choose("estimated", decoder(), recipe=fitted(decoder(), Confidence(sigma=3.5)))
    assert choice.recipe.parts["head"].selector.sigma == 3.5


@pytest.mark.parametrize("way", ["dense", "exact", "estimated"])
def test_auto_does_what_a_named_recipe_says(way):
    recipe = dataclasses.replace(fitted(decoder()), head=way)
    choice = choose("auto", decoder(), recipe=recipe)
    assert choice.head.name == way
    assert "recipe says so" in choice.reason
    stored = fitted(decoder(), exact_seconds=1.0)
    recipes.save(stored, recipes.default_folder(stored.fingerprint))
    assert choose("auto", decoder()).head.name == "exact", "which is for its own model alone"


@pytest.mark.parametrize("name", ["auto", "estimated"])
def test_a_recipe_for_the_layers_alone_leaves_the_head_to_the_models_own(name):
    layers = dataclasses.replace(fitted(decoder(), place="layers.0.down"), measured={})
    choice = choose(name, decoder(), recipe=layers)
    assert choice.head.name == "estimated"
    assert choice.recipe is not layers


def test_recipes_that_cannot_be_used():
    with pytest.raises(RecipeError, match="cannot run low_rank with top_k"):
        choose("estimated", decoder(), recipe=fitted(decoder(), TopK(count=8)))
    without_part = Recipe("tiny", "f00d", {}, head="estimated")
    with pytest.raises(RecipeError, match="no shortlist of the head"):
        choose("auto", decoder(), recipe=without_part)


def test_stored_recipes_that_cannot_be_used(tmp_path):
    recipes.save(fitted(decoder()), tmp_path / "one")
    with pytest.raises(RecipeError, match="another checkpoint"):
        module.stored_recipe("0" * 64, tmp_path / "one")
    with pytest.raises(RecipeError, match="no recipe"):
        module.stored_recipe("f" * 64, tmp_path / "nothing")


@pytest.mark.parametrize("name", ["dense", "exact"])
def test_a_recipe_that_could_do_nothing_is_refused(name):
    with pytest.raises(UsageError, match="leave out --recipe"):
        choose(name, decoder(), recipe=fitted(decoder()))
    layers = fitted(decoder(), place="layers.0.down")
    assert choose(name, decoder(), recipe=layers).head.name == name
