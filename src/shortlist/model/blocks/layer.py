"""One layer: its residual branches, each of blocks and norms, packed for the native decoder."""

import math
from typing import Any

from shortlist import _native
from shortlist.model.blocks.attention import pack_attention
from shortlist.model.blocks.base import Packing
from shortlist.model.blocks.ffn import pack_ffn
from shortlist.model.blocks.laurel import pack_laurel
from shortlist.model.blocks.mixture import pack_mixture


def pack_layer(packing: Packing, layer: int) -> list[_native.Branch]:
    """Attention, then the feed-forward block, each with the norms that the checkpoint has."""
    config = packing.config

    def norm(name: str):
        return packing.norm(f"layers.{layer}.{name}")

    members: list[tuple[_native.Block, Any, bool]] = [
        (pack_attention(packing, layer), norm("post_attention_norm"), False)
    ]
    if config.laurel_rank:
        members.insert(0, (pack_laurel(packing, layer), norm("laurel_norm"), True))
    ffn = pack_mixture(packing, layer) if config.is_mixture(layer) else pack_ffn(packing, layer)
    scale = config.residual_scale
    shrunk = math.sqrt(0.5) if config.laurel_rank else 1.0
    return [
        _native.Branch(members, norm=norm("attention_norm"), scale=scale, sum_scale=shrunk),
        _native.Branch([(ffn, norm("post_ffn_norm"), False)], norm=norm("ffn_norm"), scale=scale),
    ]
