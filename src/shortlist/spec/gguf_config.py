"""What GGUF metadata says of a model, with the constants that llama.cpp knows by heart.

Where a GGUF file is silent, its converter relied on llama.cpp (src/llama-model.cpp, `load_hparams`): that
every sixth layer of gemma3 sees everything and the others turn with base 10,000, for example.
"""

import math
from collections.abc import Mapping

import numpy as np

from shortlist.spec import rope
from shortlist.spec.activations import activation_of
from shortlist.spec.config import ModelConfig
from shortlist.spec.families.base import BIASES, Family
from shortlist.spec.gguf_keys import keys_of
from shortlist.spec.keys import check_keys
from shortlist.spec.mixtures import gguf_mixture
from shortlist.spec.settings import (
    MAX_CONTEXT,
    MAX_FFN_WIDTH,
    MAX_HEAD_DIM,
    MAX_HEADS,
    MAX_LAYERS,
    MAX_WIDTH,
    Settings,
)
from shortlist.spec.tensors import StoredTensor


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
    check_keys(settings, keys_of(family))
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
    rotations = _rotations(settings, family, head_dim, tensors.get("rope_freqs"))
    rotation = [rotations[bool(window)] for window in windows]
    scales = tuple(each.scale for each in rotation)
    config = ModelConfig(
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
        attention_scale=family.attention_scale or head_dim**-0.5,
        windows=windows,
        rope_frequencies=tuple(each.frequencies for each in rotation),
        rope_scales=scales if set(scales) != {1.0} else (),
        rope_interleaved=family.gguf_interleaved,
        logit_cap=_logit_cap(settings, family),
        ffn_widths=ffn_widths if len(set(ffn_widths)) > 1 else (),
        biases=_biases(tensors),
        mixture=gguf_mixture(settings, family, layers, tensors),
    )
    return family.gguf_own(settings, config, tensors) if family.gguf_own else config


def _logit_cap(settings: Settings, family: Family) -> float | None:
    key = "final_logit_softcapping"
    if not settings.get(key, family.gguf_logit_cap or 0):
        return None
    return settings.positive(key, family.gguf_logit_cap)


def _biases(tensors: Mapping[str, StoredTensor]) -> tuple[str, ...]:
    """The bias vectors that any layer has: llama.cpp adds those that are there."""
    found = {name.rpartition(".")[2] for name in tensors if name.endswith("_bias")}
    return tuple(name for name in BIASES if name in found)


def _windows(settings: Settings, family: Family, layers: int) -> tuple[int, ...]:
    key = "attention.sliding_window_pattern"
    window = settings.integer("attention.sliding_window", MAX_CONTEXT, default=0, least=0)
    if family.window_rule != "most":
        window = 0
    pattern = settings.get(key, family.global_every)
    if isinstance(pattern, list):
        if len(pattern) != layers or not all(type(local) in (bool, int) for local in pattern):
            settings.fail(key, f"must be flags for {layers} layers, and has {len(pattern)} values")
        return tuple(window if local else 0 for local in pattern)
    every = settings.integer(key, MAX_LAYERS, default=family.global_every, least=0)
    return tuple(0 if every and (i + 1) % every == 0 else window for i in range(layers))


def _rotations(
    settings: Settings, family: Family, head_dim: int, factors: StoredTensor | None
) -> dict[bool, rope.Rotation]:
    """How layers turn queries and keys, without a window and with one."""
    turning = settings.integer("rope.dimension_count", MAX_HEAD_DIM, default=head_dim)
    if (turning != head_dim and not (family.partial_rope and turning < head_dim)) or turning % 2:
        most = "even and at most" if family.partial_rope else "even, and without partial rotation"
        settings.fail("rope.dimension_count", f"is {turning}, but must be {most} the head size {head_dim}")
    base = settings.positive("rope.freq_base", 10_000.0)
    everywhere = settings.positive("rope.scaling.attn_factor", 1.0)
    turned = _scaled(settings, rope.plain(base, turning), base)
    if factors is not None:
        divided = rope.divided(turned.frequencies, _rope_factors(settings, turning, factors))
        turned = turned._replace(frequencies=divided)
    turned = turned._replace(scale=turned.scale * everywhere)
    if family.local_rope_base is None:
        return {False: turned, True: turned}
    # llama.cpp never scales layers with a window.
    local = rope.plain(settings.positive("rope.freq_base_swa", family.local_rope_base), head_dim)
    return {False: turned, True: rope.Rotation(local, everywhere)}


def _scaled(settings: Settings, frequencies: rope.Frequencies, base: float) -> rope.Rotation:
    key = "rope.scaling.factor" if "rope.scaling.factor" in settings else "rope.scale_linear"
    factor = settings.positive(key) if settings.get(key, 0) else 1.0  # 0 is 1 in llama.cpp
    match settings.one_of("rope.scaling.type", ("none", "linear", "yarn"), default="linear"):
        case "linear":
            return rope.Rotation(rope.linear(frequencies, factor))
        case "yarn":
            if base <= 1:
                settings.fail("rope.freq_base", f"is {base}, but must be above 1 for yarn")
            original = settings.between(
                "rope.scaling.original_context_length", 1, MAX_CONTEXT, settings.get("context_length")
            )
            fast = settings.between("rope.scaling.yarn_beta_fast", 1e-6, 1e6, 32.0)
            slow = settings.between("rope.scaling.yarn_beta_slow", 1e-6, 1e6, 1.0)
            turned = rope.yarn(frequencies, factor, original, base=base, beta_fast=fast, beta_slow=slow)
            return rope.Rotation(turned, rope.yarn_attention_factor(factor))
    return rope.Rotation(frequencies)


def _rope_factors(settings: Settings, head_dim: int, tensor: StoredTensor) -> np.ndarray:
    if tensor.type == "F32" and tensor.shape == (head_dim // 2,):
        factors = tensor.data.view("<f4")
        if np.all(np.isfinite(factors) & (factors > 0)):
            return factors
    settings.fail(
        "rope", f"needs a tensor {tensor.name} of {head_dim // 2} positive F32 numbers: fetch the file again"
    )
