from types import SimpleNamespace

import pytest

from shortlist.estimators import BitPlanes, Magnitude
from shortlist.recipe import Recipe
from shortlist.report.layers import layer_budgets
from shortlist.selectors import Certified, Threshold
from shortlist.sites.base import Part


class CountingDecoder:
    """Reads 3 channels and 5 neurons per token, after it has read a few already."""

    config = SimpleNamespace(layers=2)
    listable_neurons = 20

    def __init__(self, places=(), ffn="dense"):
        self.ffn = ffn
        self.channels_read = dict.fromkeys(places, 7)
        self.neurons_read = 11

    def new_cache(self, capacity):
        return None

    def forward(self, tokens, cache):
        self.channels_read = {place: read + 3 * len(tokens) for place, read in self.channels_read.items()}
        self.neurons_read += 5 * len(tokens)


def recipe_for(units):
    parts = {
        site: Part(Magnitude(weighted=False), Threshold(0.5), count, 9, {}) for site, count in units.items()
    }
    return Recipe("tiny", "0", {"head": Part(BitPlanes(), Certified(), 99, 9, {}), **parts})


def test_a_model_with_dense_layers_has_no_budgets():
    assert layer_budgets(CountingDecoder(), None, [1, 2]) is None
    assert layer_budgets(CountingDecoder(), recipe_for({}), [1, 2]) is None


def test_shares_are_of_the_tokens_at_hand_and_dense_places_are_at_one():
    units = {"layers.0.qkv": 6, "layers.1.down": 30}
    budgets = layer_budgets(CountingDecoder(units), recipe_for(units), [1, 2, 3, 4])
    assert budgets == {
        "channels": {"qkv": [0.5, 1.0], "o": [1.0, 1.0], "gate_up": [1.0, 1.0], "down": [1.0, 0.1]},
        "neurons": 1.0,
    }


def test_neurons_are_counted_over_all_layers():
    budgets = layer_budgets(CountingDecoder(ffn="exact"), None, [1, 2, 3, 4])
    assert budgets is not None
    assert budgets["neurons"] == pytest.approx(5 / 20)
    assert budgets["channels"]["down"] == [1.0, 1.0]
