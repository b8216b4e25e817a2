import dataclasses
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from heads import low_rank_head

from shortlist import _native
from shortlist import recipe as recipes
from shortlist.engine import choose_head as module
from shortlist.engine.choose_head import choose_head, gain_of_fitting, how_often_it_differs
from shortlist.errors import RecipeError, UsageError
from shortlist.estimators import BitPlanes, LowRank, Magnitude
from shortlist.recipe import Recipe
from shortlist.selectors import Certified, Confidence, Threshold, TopK
from shortlist.sites.base import Part
from shortlist.sites.head import Head, exact_head

UNITS, WIDTH = 512, 96


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path))


def decoder(format="q8", layer_bytes=0, width=WIDTH, cap=None) -> Any:
    table = np.random.default_rng(0).normal(size=(UNITS, width)).astype(np.float32)
    rows = _native.Rows.pack(table.view(np.uint8).reshape(-1), "F32", UNITS, width, format)
    return SimpleNamespace(head_rows=rows, layer_bytes=layer_bytes, fingerprint="f" * 64, logit_cap=cap)


@cache
def state():
    table = np.random.default_rng(0).normal(size=(UNITS, WIDTH)).astype(np.float32)
    queries = np.random.default_rng(1).normal(size=(200, WIDTH)).astype(np.float32)
    return LowRank(rank=32).fit(table, queries)


def recipe_of(way: Any = "estimated", *, selector=None, place="head"):
    estimate = Part(LowRank(rank=32), selector or Confidence(), UNITS, WIDTH, state())
    exact = Part(BitPlanes(), Certified(), UNITS, WIDTH, {})
    sites = {} if way is None else {"head": {"dense": None, "exact": exact, "estimated": estimate}[way]}
    if place != "head":
        sites[place] = Part(Magnitude(weighted=False), Threshold(0.5), UNITS, WIDTH, {})
        return Recipe("tiny", "f" * 64, sites)
    return Recipe("tiny", "f" * 64, sites, alternatives={"head": estimate} if way != "estimated" else {})


def store(recipe):
    recipes.save(recipe, recipes.default_folder(recipe.fingerprint))


def choose(name, decoder, **options) -> Any:
    return choose_head(name, decoder, "tiny", **options)


@pytest.mark.parametrize("name", ["dense", "estimated", "exact"])
def test_the_head_that_was_asked_for(name):
    store(recipe_of("dense"))
    choice = choose(name, decoder())
    assert choice.head.name == name
    assert (choice.recipe is not None) == (name == "estimated")
    assert choice.reason == ""


@pytest.mark.parametrize("head_bytes", [-1, 0, 1])
def test_auto_is_exact_where_the_head_is_half_of_the_bytes(head_bytes):
    plain = decoder()
    choice = choose("auto", decoder(layer_bytes=plain.head_rows.nbytes - head_bytes))
    assert choice.head.name == ("dense" if head_bytes < 0 else "exact")
    assert choice.recipe is None
    assert "50% of the bytes" in choice.reason


def test_auto_is_dense_where_there_is_no_exact_head():
    floats = decoder(format="")
    choice = choose("auto", floats)
    assert choice.head.name == "dense"
    assert "not stored in 8 bits" in choice.reason
    with pytest.raises(UsageError, match="8 bits"):
        choose("exact", floats)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("way", ["dense", "exact", "estimated"])
def test_auto_does_what_a_recipe_says(way, named):
    recipe = recipe_of(way)
    if named:
        store(recipe_of("dense" if way == "exact" else "exact"))
    else:
        store(recipe)
    choice = choose("auto", decoder(), recipe=recipe if named else None)
    assert choice.head.name == way
    assert choice.recipe.head == way
    assert choice.reason == "its recipe says so"


def test_auto_is_dense_where_a_recipe_says_exact_of_a_head_without_8_bits():
    choice = choose("auto", decoder(format=""), recipe=recipe_of("exact"))
    assert choice.head.name == "dense"
    assert "says exact" in choice.reason


@pytest.mark.parametrize(
    ("width", "message"),
    [(65, "not fitted yet: run shortlist fit tiny"), (64, "only 64 wide, too narrow to estimate")],
)
def test_the_estimated_head_is_not_fitted_on_the_way(width, message):
    with pytest.raises(UsageError, match=message):
        choose("estimated", decoder(width=width))
    assert choose("auto", decoder(width=width)).head.name == "exact"


def test_a_named_recipe_is_used():
    choice = choose("estimated", decoder(), recipe=recipe_of(selector=Confidence(sigma=3.5)))
    assert choice.recipe.sites["head"].selector.sigma == 3.5


def test_a_recipe_names_the_selector_too():
    head = choose("auto", decoder(), recipe=recipe_of(selector=TopK(count=1, fetch=8))).head
    hidden = np.ones(WIDTH, np.float32)
    assert head.selector == TopK(1, 8)
    assert head.argmax(hidden)[1].rows == 8


@pytest.mark.parametrize("name", ["auto", "estimated"])
def test_a_recipe_for_the_layers_alone_leaves_the_head_to_the_models_own(name):
    store(recipe_of())
    layers = recipe_of(None, place="layers.0.down")
    choice = choose(name, decoder(), recipe=layers)
    assert choice.head.name == "estimated"
    assert choice.recipe.sites.keys() == {"head"}


def test_a_recipe_that_decodes_densely_still_lets_the_models_own_be_asked_for():
    store(recipe_of())
    tuned = recipe_of("dense", place="layers.0.down")
    assert choose("auto", decoder(), recipe=tuned).head.name == "dense"
    assert choose("estimated", decoder(), recipe=tuned).head.name == "estimated"


def test_stored_recipes_that_cannot_be_used(tmp_path):
    recipes.save(recipe_of(), tmp_path / "one")
    with pytest.raises(RecipeError, match="another checkpoint"):
        module.stored_recipe("0" * 64, tmp_path / "one")
    with pytest.raises(RecipeError, match="no recipe"):
        module.stored_recipe("f" * 64, tmp_path / "nothing")
    assert module.stored_recipe("f" * 64) is None


@pytest.mark.parametrize("name", ["dense", "exact"])
def test_a_recipe_that_could_do_nothing_is_refused(name):
    with pytest.raises(UsageError, match="leave out --recipe"):
        choose(name, decoder(), recipe=recipe_of())
    layers = recipe_of(None, place="layers.0.down")
    assert choose(name, decoder(), recipe=layers).head.name == name
    neurons = dataclasses.replace(recipe_of(), sites={"head": None, "layers.0.neurons": None})
    assert choose(name, decoder(), recipe=neurons).head.name == name


@pytest.mark.parametrize("name", ["dense", "exact", "estimated"])
def test_every_head_caps_its_logits(name):
    head = choose(name, decoder(cap=0.5), recipe=recipe_of() if name == "estimated" else None).head
    logits, _ = head.logits(np.full(WIDTH, 10, dtype=np.float32))
    assert np.abs(logits).max() <= 0.5


def test_what_fitting_gains_is_told_by_bytes():
    some = decoder(layer_bytes=1000)
    head = some.head_rows.nbytes
    fitted = 1000 + 0.24 * head
    assert gain_of_fitting(some, Head(some.head_rows)) == pytest.approx((1000 + head) / fitted)
    exact = exact_head(some.head_rows)
    assert gain_of_fitting(some, exact) == pytest.approx((1000 + exact.estimate_bytes) / fitted)
    part = recipe_of().sites["head"]
    estimated = low_rank_head(some.head_rows, part.state, part.selector)  # pyright: ignore[reportArgumentType]
    assert gain_of_fitting(some, estimated) == 1
    narrow, wide = decoder(width=64), decoder(width=65)
    assert gain_of_fitting(narrow, Head(narrow.head_rows)) == 1
    assert gain_of_fitting(wide, Head(wide.head_rows)) > 1


@pytest.mark.parametrize("place", ["head", "whole"])
def test_how_often_the_text_differed_is_said(place):
    measured = {"head": {"shortlisted": {"agreement": 0.5}, "tokens": 8}}
    measured[place] = {"shortlisted": {"agreement": 0.9961}, "tokens": 256}
    assert "0.39% of 256 tokens" in how_often_it_differs(measured)


@pytest.mark.parametrize("measured", [{}, {"head": {}}, {"head": {"shortlisted": {"agreement": "high"}}}])
def test_how_often_the_text_differed_may_be_unknown(measured):
    assert "shortlist eval" in how_often_it_differs(measured)
