"""Calibration of a whole head: a recipe that decodes as the dense head does."""

import numpy as np
import pytest
from heads import low_rank_head

from shortlist.engine.choose_head import NARROWEST
from shortlist.errors import UsageError
from shortlist.fit import calibrate_head, head
from shortlist.selectors import Confidence
from shortlist.sites.head import Head


@pytest.fixture(autouse=True)
def few_positions(monkeypatch):
    for name, value in {
        "FIT_TEXT": 600,
        "FIT_OWN": 600,
        "CHOOSE": 200,
        "MEASURE": 100,
        "FEWEST": 300,
    }.items():
        monkeypatch.setattr(head, name, value)


def text(tokens, seed=0):
    return "".join(map(chr, np.random.default_rng(seed).integers(200, 700, tokens)))


@pytest.mark.parametrize("given", [None, text(2000), text(600)])
def test_recipe_decodes_as_the_dense_head(decoder, tokenizer, given):
    stages = []
    recipe = calibrate_head(decoder, tokenizer, "tiny", text=given, report=lambda s, share: stages.append(s))
    part = recipe.alternatives.get("head") or recipe.sites["head"]
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
    assert recipe.head == head.best_head(measured["seconds_per_token"])
    assert measured["shortlisted"]["agreement"] >= 0.98
    assert measured["shortlisted"]["perplexity"] == pytest.approx(measured["dense"]["perplexity"], rel=0.2)

    assert isinstance(part.selector, Confidence)
    estimated = low_rank_head(decoder.head_rows, part.state, part.selector)
    dense = Head(decoder.head_rows)
    hidden = decoder.forward(tokenizer.encode(text(200, seed=1)), decoder.new_cache(201))
    assert np.mean([estimated.argmax(h)[0] == dense.argmax(h)[0] for h in hidden]) >= 0.98


@pytest.mark.parametrize(
    ("seconds", "way"),
    [
        ({"dense": 1.12, "exact": 1.3, "estimated": 1.0}, "estimated"),
        ({"dense": 1.08, "exact": 1.3, "estimated": 1.0}, "dense"),
        ({"dense": 1.3, "exact": 1.12, "estimated": 1.0}, "estimated"),
        ({"dense": 1.3, "exact": 1.08, "estimated": 1.0}, "exact"),
        ({"dense": 1.12, "estimated": 1.0}, "estimated"),
        ({"dense": 1.08, "estimated": 1.0}, "dense"),
    ],
)
def test_the_same_text_is_preferred_where_it_costs_little(seconds, way):
    assert head.best_head(seconds) == way


def test_the_narrowest_head_that_is_estimated_is_the_smallest_rank():
    assert min(head.RANKS) == NARROWEST == 64


def test_short_text_is_refused(decoder, tokenizer):
    with pytest.raises(UsageError, match="has 599 tokens and 600 are needed"):
        calibrate_head(decoder, tokenizer, "tiny", text=text(599))


def test_narrow_head_is_refused(narrow_decoder, tokenizer):
    with pytest.raises(UsageError, match="only 32 wide"):
        calibrate_head(narrow_decoder, tokenizer, "tiny")
