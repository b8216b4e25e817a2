"""Shares of input channels and neurons that each layer reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shortlist.model.decoder import Decoder
from shortlist.recipe import Recipe
from shortlist.sites.base import MATRICES


def layer_budgets(decoder: Decoder, recipe: Recipe | None, tokens: Sequence[int]) -> dict[str, Any] | None:
    """Measure the shares that each layer reads over a text; None where all layers are dense.

    Returns
    -------
    dict
        `channels`: for each kind of input, a list with the share of channels of every layer (1: dense).
        `neurons`: the share of the feed-forward neurons over all layers.
    """
    parts = {name: part for name, part in recipe.layers.items() if part} if recipe else {}
    if not parts and decoder.ffn == "dense":
        return None
    before, neurons_before = decoder.channels_read, decoder.neurons_read
    decoder.forward(np.asarray(tokens, np.int32), decoder.new_cache(len(tokens)))
    shares = {
        place: (read - before[place]) / (len(tokens) * parts[place].units)
        for place, read in decoder.channels_read.items()
    }
    config = decoder.config
    neurons = decoder.neurons_read - neurons_before
    return {
        "channels": {
            kind: [shares.get(f"layers.{layer}.{kind}", 1.0) for layer in range(config.layers)]
            for kind in MATRICES
        },
        "neurons": 1.0 if decoder.ffn == "dense" else neurons / (len(tokens) * decoder.listable_neurons),
    }
