"""What the `config.json` of a Hugging Face folder says of a model, as transformers 4 and 5 spell it."""

import math

from shortlist.spec.activations import activation_of
from shortlist.spec.config import ModelConfig
from shortlist.spec.converted import converted_mixture
from shortlist.spec.families import FAMILIES
from shortlist.spec.families.base import ATTENTION_BIASES, BIASES, FFN_BIASES, QKV_BIASES, Family
from shortlist.spec.hf_keys import defaults_of, keys_of
from shortlist.spec.hf_layers import layer_types
from shortlist.spec.hf_rope import WINDOWED, rotations
from shortlist.spec.keys import check_keys
from shortlist.spec.mixtures import hf_mixture
from shortlist.spec.settings import (
    MAX_CONTEXT,
    MAX_FFN_WIDTH,
    MAX_HEAD_DIM,
    MAX_HEADS,
    MAX_WIDTH,
    Settings,
)

_MAX_VOCABULARY = 1 << 24


def hf_family(settings: Settings) -> Family:
    """The family that `model_type` names.

    Raises
    ------
    CheckpointError
        It names none that is supported.
    """
    by_type = {family.hf_model_type: family for family in FAMILIES.values()}
    by_type |= {family.hf_wrapper: family for family in FAMILIES.values() if family.hf_wrapper}
    kind = settings.get("model_type", None)
    if isinstance(kind, str) and kind not in by_type and "text_config" in settings:
        settings.fail(
            "model_type",
            f"is {kind!r:.60}, a model that also sees or hears, which is not supported: "
            "use a GGUF file of its text part, or a model of text alone",
        )
    return by_type[settings.one_of("model_type", by_type)]


def hf_config(settings: Settings, family: Family) -> ModelConfig:
    """Configuration of a Hugging Face model.

    Raises
    ------
    CheckpointError
        A setting is missing, absurd or not supported.
    """
    check_keys(settings, keys_of(family.name))
    settings = _with_one_count(settings, family).over(defaults_of(family.name))
    width = settings.integer("hidden_size", MAX_WIDTH)
    heads = settings.integer("num_attention_heads", MAX_HEADS)
    kv_heads = settings.integer("num_key_value_heads", MAX_HEADS, default=heads)
    if heads % kv_heads:
        settings.fail("num_key_value_heads", f"is {kv_heads}, which does not divide the {heads} heads")
    head_dim = settings.integer("head_dim", MAX_HEAD_DIM, default=width // heads)
    if head_dim % 2:
        settings.fail("head_dim", f"is {head_dim}, but must be even")
    activation_key = "hidden_activation" if "hidden_activation" in keys_of(family.name) else "hidden_act"
    types = layer_types(settings, family)
    window = settings.integer("sliding_window", MAX_CONTEXT, default=0, least=0)
    windows = tuple(window if kind == WINDOWED else 0 for kind in types)
    rotation = rotations(settings, family, head_dim)
    scales = tuple(rotation[kind].scale for kind in types)
    ffn_widths = settings.integers("intermediate_size", MAX_FFN_WIDTH, len(windows))
    cap = "final_logit_softcapping"
    config = ModelConfig(
        family=family.name,
        vocab_size=settings.integer("vocab_size", _MAX_VOCABULARY),
        width=width,
        layers=len(windows),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn_width=max(ffn_widths),
        norm_eps=settings.positive("rms_norm_eps"),
        norm_offset=family.hf_norm_offset,
        context_length=settings.integer("max_position_embeddings", MAX_CONTEXT),
        tied_head=settings.flag("tie_word_embeddings"),
        activation=activation_of(settings, family, activation_key),
        embedding_scale=math.sqrt(width) if family.scaled_embedding else 1.0,
        attention_scale=family.attention_scale
        or settings.positive("query_pre_attn_scalar", head_dim) ** -0.5,
        windows=windows,
        rope_frequencies=tuple(rotation[kind].frequencies for kind in types),
        rope_scales=scales if set(scales) != {1.0} else (),
        rope_interleaved=False,
        logit_cap=settings.positive(cap) if cap in settings else None,
        ffn_widths=ffn_widths if len(set(ffn_widths)) > 1 else (),
        biases=_biases(settings, family),
        mixture=converted_mixture(settings, len(windows)) or hf_mixture(settings, family, len(windows)),
    )
    return family.hf_own(settings, config) if family.hf_own else config


def _with_one_count(settings: Settings, family: Family) -> Settings:
    """Settings whose experts are counted under one of the two names that they go by."""
    own = family.experts.hf_count if family.experts else "num_experts"
    other = {"num_experts": "num_local_experts", "num_local_experts": "num_experts"}[own]
    if not family.experts or other not in settings:
        return settings
    count = settings.get(other)
    if settings.get(own, count) != count:
        settings.fail(other, f"is {count!r:.40}, but {own} is {settings.get(own)!r:.40}: they must be equal")
    return settings.updated({own: count})


def _biases(settings: Settings, family: Family) -> tuple[str, ...]:
    """The bias vectors that layers have."""
    named = {
        "attention_bias": ATTENTION_BIASES,
        "qkv_bias": QKV_BIASES,
        "mlp_bias": FFN_BIASES if family.gated else tuple(name for name in FFN_BIASES if name != "gate_bias"),
    }
    stated = [name for key, names in named.items() if settings.flag(key) for name in names]
    return tuple(name for name in BIASES if name in family.extras or name in stated)
