"""Fitting a model by name: the recipe that later loads find in the cache folder."""

import json
import os

import numpy as np
import pytest
from builders import tiny_gguf

import shortlist
from shortlist import checkpoints
from shortlist import recipe as recipes
from shortlist.errors import RecipeError, UsageError
from shortlist.fit import fit, head


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    tiny_gguf("llama", path, "Q8_0")
    return path


@pytest.fixture(autouse=True)
def few_positions(monkeypatch, tmp_path):
    for name in ("FIT_OWN", "CHOOSE", "MEASURE"):
        monkeypatch.setattr(head, name, 40)
    monkeypatch.setattr(head, "RANKS", (32,))
    monkeypatch.setattr(head, "best_head", lambda _seconds: "estimated")
    monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path / "home"))


def folder_of(path):
    with checkpoints.open_checkpoint(path) as checkpoint:
        return recipes.default_folder(checkpoint.fingerprint)


def test_a_fitted_head_is_what_later_loads_take(tiny):
    stages = []
    recipe = fit(tiny, threads=1, report=lambda stage, share: stages.append(stage))
    assert stages[0] == "write"
    assert recipe.model == str(tiny)
    with shortlist.load(tiny) as model:
        assert model.head.name == "estimated"
        assert model.recipe is not None
        assert model.recipe.summary() == recipe.summary()
        assert any("may differ" in note and "40 tokens" in note for note in model.notes)


def test_a_given_text_is_fitted_to(tiny, monkeypatch):
    monkeypatch.setattr(head, "FEWEST", 40)
    words = ["the", "cat", "and", "a", "dog"]
    stages = []
    text = " ".join(np.random.default_rng(0).choice(words, 400))
    fit(tiny, text=text, threads=1, report=lambda stage, share: stages.append(stage))
    assert stages[0] == "read"


def test_a_model_is_fitted_again_unless_told_not_to(tiny, monkeypatch):
    first = fit(tiny, threads=1)
    monkeypatch.setattr("shortlist.fit.fitting.calibrate_head", None)
    assert fit(tiny, again=False).summary() == first.summary()
    with pytest.raises(TypeError):
        fit(tiny)


def test_a_damaged_recipe_is_kept_or_replaced_as_asked(tiny):
    folder = folder_of(tiny)
    folder.mkdir(parents=True)
    (folder / recipes.FILE_NAME).write_text("{")
    with pytest.raises(RecipeError, match="damaged"):
        fit(tiny, again=False)
    with pytest.raises(RecipeError, match="damaged"):
        shortlist.load(tiny)
    fit(tiny, threads=1)
    assert json.loads((folder / recipes.FILE_NAME).read_text())["sites"]["head"]["way"] == "estimated"


def test_a_cache_that_cannot_be_written_is_refused_before_any_work(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SHORTLIST_HOME", os.fspath(tmp_path / "file"))
    monkeypatch.setattr("shortlist.fit.fitting.calibrate_head", None)
    with pytest.raises(UsageError, match=r"cannot be written \(.*\): set SHORTLIST_HOME to"):
        fit(tiny)


def test_weights_are_quantized_as_they_will_be_loaded(tmp_path):
    tiny_gguf("llama", tmp_path / "float.gguf")
    seconds = []
    for weights in (None, "q8"):
        recipe = fit(tmp_path / "float.gguf", weights=weights, threads=1)
        seconds.append(set(recipe.measured["head"]["seconds_per_token"]))
    assert seconds == [{"dense", "estimated"}, {"dense", "estimated", "exact"}]
