"""Attention of one layer, packed for the native decoder."""

import numpy as np

from shortlist import _native
from shortlist.checkpoints.packing import halves_order
from shortlist.model.blocks.base import Packing
from shortlist.spec.families import FAMILIES
from shortlist.spec.families.base import ATTENTION_BIASES


def pack_attention(packing: Packing, layer: int) -> _native.Attention:
    """Attention over a layer's own keys and values, or over those of an earlier one."""
    config = packing.config
    source = config.kv_source_of(layer)
    matrices, inputs = packing.matrices(layer, ("qkv", "o"))
    vectors = packing.vectors(layer, ATTENTION_BIASES)
    norms = {name: packing.norm(f"layers.{layer}.{name}") for name in ("q_norm", "k_norm")}
    vectors |= {name: norm for name, norm in norms.items() if norm is not None}
    if FAMILIES[config.family].value_norm:
        vectors["v_norm"] = np.ones(config.head_dim, np.float32)
    if config.rope_interleaved:
        for name in vectors.keys() & {"q_bias", "k_bias"}:
            vectors[name] = halves_order(vectors[name][:, None], config.head_dim)[:, 0]
    attention = _native.Attention(
        matrices,
        vectors,
        heads=config.heads,
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        scale=config.attention_scale,
        norm_eps=config.norm_eps,
        window=config.windows[layer],
        rope=_rope(packing, layer),
        source=None if source == layer else packing.attentions[source],
        inputs=inputs,
    )
    packing.attentions[layer] = attention
    return attention


def _rope(packing: Packing, layer: int) -> _native.Rope | None:
    """The angles of a layer, one object for all layers that turn alike; None where it does not turn."""
    turn = packing.config.rope_of(layer)
    if not turn[0]:
        return None
    if turn not in packing.shared:
        packing.shared[turn] = _native.Rope(list(turn[0]), turn[1])
    return packing.shared[turn]
