"""Calibration of a whole head: a recipe that decodes as the dense head does, fitted once and reused."""

import numpy as np
import pytest

from shortlist import recipe as recipes
from shortlist.calibrate import cached, calibrate_head, head, head_recipe
from shortlist.errors import RecipeError, UsageError
from shortlist.models.heads import DenseHead, EstimatedHead
from shortlist.selectors import Confidence


@pytest.fixture(autouse=True)
def few_positions(monkeypatch, tmp_path):
    for name, value in {
        "FIT_TEXT": 600,
        "FIT_OWN": 600,
        "CHOOSE": 200,
        "MEASURE": 100,
        "FEWEST": 300,
    }.items():
        monkeypatch.setattr(head, name, value)
    monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path))


def text(tokens, seed=0):
    return "".join(map(chr, np.random.default_rng(seed).integers(200, 700, tokens)))


@pytest.mark.parametrize("given", [None, text(2000), text(600)])
def test_recipe_decodes_as_the_dense_head(decoder, tokenizer, given):
    stages = []
    recipe = calibrate_head(decoder, tokenizer, "tiny", text=given, report=lambda s, share: stages.append(s))
    part = recipe.parts["head"]
    assert (recipe.fingerprint, part.units, part.width) == ("f00d", 600, 96)
    assert list(dict.fromkeys(stages)) == [
        "write" if given is None else "read",
        "fit",
        "choose",
        "measure",
        "time",
    ]

    measured = recipe.measured["head"]
    assert measured["tokens"] == 100
    assert set(measured["seconds_per_token"]) == {"dense", "estimated", "exact"}
    assert measured["shortlisted"]["agreement"] >= 0.98
    assert measured["shortlisted"]["perplexity"] == pytest.approx(measured["dense"]["perplexity"], rel=0.2)

    assert isinstance(part.selector, Confidence)
    estimated = EstimatedHead(decoder.head_rows, part.state, part.selector)
    dense = DenseHead(decoder.head_rows)
    hidden = decoder.forward(tokenizer.encode(text(200, seed=1)), decoder.new_cache(201))
    assert np.mean([estimated.argmax(h)[0] == dense.argmax(h)[0] for h in hidden]) >= 0.98


def test_recipe_is_fitted_once(decoder, tokenizer, monkeypatch):
    first = head_recipe(decoder, tokenizer, "tiny")
    monkeypatch.setattr(cached, "calibrate_head", None)
    assert head_recipe(decoder, tokenizer, "tiny").summary() == first.summary()


def test_damaged_recipe_is_not_hidden_by_a_new_one(decoder, tokenizer):
    folder = recipes.default_folder("f00d")
    folder.mkdir(parents=True)
    (folder / recipes.FILE_NAME).write_text("{")
    with pytest.raises(RecipeError, match="damaged"):
        head_recipe(decoder, tokenizer, "tiny")


def test_progress_is_quiet_when_standard_error_is_no_terminal(decoder, tokenizer, capfd):
    head_recipe(decoder, tokenizer, "tiny", progress=True)
    assert capfd.readouterr() == ("", "")


def test_short_text_is_refused(decoder, tokenizer):
    with pytest.raises(UsageError, match="has 599 tokens and 600 are needed"):
        calibrate_head(decoder, tokenizer, "tiny", text=text(599))


def test_narrow_head_is_refused(narrow_decoder, tokenizer):
    with pytest.raises(UsageError, match="only 32 wide"):
        calibrate_head(narrow_decoder, tokenizer, "tiny")
