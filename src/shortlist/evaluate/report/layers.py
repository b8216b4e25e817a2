"""What each layer reads: the shares of its inputs' channels and of its neurons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from shortlist.models.decoder import Decoder
from shortlist.models.places import KINDS
from shortlist.recipe import Recipe


def layer_budgets(
    decoder: Decoder, recipe: Recipe | None, tokens: Sequence[int], progress: Callable[[str, float], None]
) -> dict[str, Any] | None:
    """Shares that are read per layer over a text, or None where all layers are dense.

    Returns
    -------
    dict
        `channels`: for each layer a share of the input channels by kind of place, 1 where it is dense;
        `neurons`: the share of the feed-forward neurons, over all layers.
    """
    parts = recipe.layer_parts if recipe else {}
    if not parts and decoder.ffn == "dense":
        return None
    progress("reading channels", 0.0)
    channels, neurons = dict(decoder.channels_read) if parts else {}, decoder.neurons_read
    for token in np.asarray(tokens, np.int32)[:, None]:
        raise NotImplementedError(token)
    return None
