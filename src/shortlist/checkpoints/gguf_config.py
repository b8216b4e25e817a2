"""What GGUF metadata says of a model, with the constants that llama.cpp knows by heart.

Where a GGUF file is silent, its converter relied on llama.cpp (src/llama-model.cpp, `load_hparams`): that
every sixth layer of gemma3 sees everything and the others turn with base 10,000, for example.
"""

import math
from collections.abc import Mapping

import numpy as np

from shortlist.checkpoints import rope
from shortlist.checkpoints.activations import activation_of
from shortlist.checkpoints.base import StoredTensor
from shortlist.checkpoints.experts import gguf_mixture
from shortlist.checkpoints.gemma3n import gguf_extras
from shortlist.checkpoints.settings import (
    MAX_CONTEXT,
    MAX_FFN_WIDTH,
    MAX_HEAD_DIM,
    MAX_HEADS,
    MAX_LAYERS,
    MAX_WIDTH,
    Settings,
)
from shortlist.models.config import ModelConfig
from shortlist.models.families import Family


def gguf_config(settings: Settings, family: Family, tensors: Mapping[str, StoredTensor]) -> ModelConfig:
    """Configuration of a GGUF model.

    Parameters
    ----------
    settings
        The keys of its architecture.
    family
        That the architecture belongs to.
    tensors
        By canonical name: the vocabulary's size, the tying of the head, and RoPE factors are told by these.

    Raises
    ------
    CheckpointError
        A setting is missing, absurd or not supported.
    """
    width = settings.integer("embedding_length", MAX_WIDTH)
    layers = settings.integer("block_count", MAX_LAYERS)
    heads = settings.integer("attention.head_count", MAX_HEADS)
    kv_heads = settings.integer("attention.head_count_kv", MAX_HEADS, default=heads)
    if heads % kv_heads:
        settings.fail("attention.head_count_kv", f"is {kv_heads}, which does not divide the {heads} heads")
    head_dim = settings.integer("attention.key_length", MAX_HEAD_DIM, default=width // heads)
    if settings.integer("attention.value_length", MAX_HEAD_DIM, default=head_dim) != head_dim:
        settings.fail(
            "attention.value_length", f"differs from the key length {head_dim}, which is not supported"
        )
    windows = _windows(settings, family, layers)
    ffn_widths = settings.integers("feed_forward_length", MAX_FFN_WIDTH, layers)
    cap = "final_logit_softcapping"
    return ModelConfig(
        family=family.name,
        vocab_size=tensors["embedding"].shape[0],
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn_width=max(ffn_widths),
        norm_eps=settings.positive("attention.layer_norm_rms_epsilon"),
        norm_offset=0.0,
        context_length=settings.integer("context_length", MAX_CONTEXT),
        tied_head="head" not in tensors,
        activation=activation_of(settings, family, "hidden_act"),
        embedding_scale=math.sqrt(width) if family.scaled_embedding else 1.0,
        attention_scale=_attention_scale(family, layers, width, heads, head_dim),
        windows=windows,
        rope_frequencies=_rope_frequencies(settings, family, windows, head_dim, tensors.get("rope_freqs")),
        rope_interleaved=family.gguf_interleaved,
        logit_cap=settings.positive(cap) if cap in settings else family.gguf_logit_cap,
        ffn_widths=ffn_widths if len(set(ffn_widths)) > 1 else (),
        mixture=gguf_mixture(settings, family, layers, tensors),
        **(gguf_extras(settings, windows, tensors) if family.streams else {}),
    )


def _attention_scale(family: Family, layers: int, width: int, heads: int, head_dim: int) -> float:
    # No key says it.
    if family.attention_scale:
        return family.attention_scale
    # Gemma 3 27B, alone with 62 layers, divides by another size than that of its heads.
    if family.name == "gemma3" and layers == 62:
        return (width / heads) ** -0.5
    return head_dim**-0.5


def _windows(settings: Settings, family: Family, layers: int) -> tuple[int, ...]:
    key = "attention.sliding_window_pattern"
    window = settings.integer("attention.sliding_window", MAX_CONTEXT, default=0, least=0)
    pattern = settings.get(key, family.global_every)
    if isinstance(pattern, list):
        if len(pattern) != layers:
            settings.fail(key, f"has {len(pattern)} flags for {layers} layers")
        return tuple(window if local else 0 for local in pattern)
    every = settings.integer(key, MAX_LAYERS, default=family.global_every, least=0)
    return tuple(0 if every and (i + 1) % every == 0 else window for i in range(layers))


def _rope_frequencies(
    settings: Settings, family: Family, windows: tuple[int, ...], head_dim: int, factors: StoredTensor | None
) -> tuple[rope.Frequencies, ...]:
    if settings.integer("rope.dimension_count", MAX_HEAD_DIM, default=head_dim) != head_dim or head_dim % 2:
        settings.fail(
            "rope.dimension_count",
            f"must be the head size {head_dim} and even: partial rotation is not supported",
        )
    frequencies = rope.plain(settings.positive("rope.freq_base", 10_000.0), head_dim)
    if settings.one_of("rope.scaling.type", ("none", "linear"), default="linear") == "linear":
        frequencies = rope.linear(frequencies, settings.positive("rope.scaling.factor", 1.0))
    if factors is not None:
        frequencies = rope.divided(frequencies, _rope_factors(settings, head_dim, factors))
    if family.local_rope_base is None:
        return (frequencies,) * len(windows)
    local = rope.plain(settings.positive("rope.freq_base_swa", family.local_rope_base), head_dim)
    return tuple(local if window else frequencies for window in windows)


def _rope_factors(settings: Settings, head_dim: int, tensor: StoredTensor) -> np.ndarray:
    if tensor.type == "F32" and tensor.shape == (head_dim // 2,):
        factors = tensor.data.view("<f4")
        if np.all(np.isfinite(factors) & (factors > 0)):
            return factors
    settings.fail(
        "rope", f"needs a tensor {tensor.name} of {head_dim // 2} positive F32 numbers: fetch the file again"
    )
