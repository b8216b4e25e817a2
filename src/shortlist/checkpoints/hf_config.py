"""What the `config.json` of a Hugging Face folder says of a model, as transformers 4 and 5 spell it."""

import math

from shortlist.checkpoints import rope
from shortlist.checkpoints.activations import activation_of
from shortlist.checkpoints.converted import converted_mixture
from shortlist.checkpoints.experts import hf_mixture
from shortlist.checkpoints.gemma3n import hf_extras
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
from shortlist.models.families import FAMILIES, Family

_MAX_VOCABULARY = 1 << 24
_WINDOWED, _GLOBAL = "sliding_attention", "full_attention"
# Each changes what the model computes, and none is in a model of the families here that is in use.
_UNSUPPORTED = (
    "quantization_config",
    "attn_logit_softcapping",
    "use_bidirectional_attention",
)


def hf_family(settings: Settings) -> Family:
    """The family that `model_type` names.

    Raises
    ------
    CheckpointError
        It names none that is supported.
    """
    by_type = {family.hf_model_type: family for family in FAMILIES.values()}
    by_type |= {family.hf_wrapper: family for family in FAMILIES.values() if family.hf_wrapper}
    return by_type[settings.one_of("model_type", by_type)]


def hf_config(settings: Settings, family: Family) -> ModelConfig:
    """Configuration of a Hugging Face model.

    Raises
    ------
    CheckpointError
        A setting is missing, absurd or not supported.
    """
    for key in _UNSUPPORTED:
        if settings.get(key, False):
            settings.fail(key, "is set, which is not supported")
    width = settings.integer("hidden_size", MAX_WIDTH)
    heads = settings.integer("num_attention_heads", MAX_HEADS)
    kv_heads = settings.integer("num_key_value_heads", MAX_HEADS, default=heads)
    if heads % kv_heads:
        settings.fail("num_key_value_heads", f"is {kv_heads}, which does not divide the {heads} heads")
    head_dim = settings.integer("head_dim", MAX_HEAD_DIM, default=width // heads)
    if head_dim % 2:
        settings.fail("head_dim", f"is {head_dim}, but must be even")
    activation_key = "hidden_activation" if "hidden_activation" in settings else "hidden_act"
    windows = _windows(settings, family)
    ffn_widths = settings.integers("intermediate_size", MAX_FFN_WIDTH, len(windows))
    cap = "final_logit_softcapping"
    return ModelConfig(
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
        tied_head=bool(settings.get("tie_word_embeddings", family.hf_tied_head)),
        activation=activation_of(settings, family, activation_key),
        embedding_scale=math.sqrt(width) if family.scaled_embedding else 1.0,
        attention_scale=family.attention_scale
        or settings.positive("query_pre_attn_scalar", head_dim) ** -0.5,
        windows=windows,
        rope_frequencies=_rope_frequencies(settings, family, windows, head_dim),
        rope_interleaved=False,
        logit_cap=settings.positive(cap) if cap in settings else None,
        ffn_widths=ffn_widths if len(set(ffn_widths)) > 1 else (),
        mixture=converted_mixture(settings, len(windows)) or hf_mixture(settings, family, len(windows)),
        **(hf_extras(settings, windows) if family.streams else {}),
    )


def _windows(settings: Settings, family: Family) -> tuple[int, ...]:
    layers = settings.integer("num_hidden_layers", MAX_LAYERS)
    window = settings.integer("sliding_window", MAX_CONTEXT, default=0, least=0)
    if not settings.get("use_sliding_window", True):  # qwen states a window and whether it is in force
        window = 0
    types = settings.get("layer_types", _layer_types(settings, family, layers))
    if (
        not isinstance(types, list)
        or len(types) != layers
        or any(kind not in (_WINDOWED, _GLOBAL) for kind in types)
    ):
        settings.fail("layer_types", f"must name {_WINDOWED} or {_GLOBAL} for each of {layers} layers")
    if "layer_types" in settings and _WINDOWED in types and window == 0:
        settings.fail("sliding_window", f"is missing, but some layers are of type {_WINDOWED}")
    return tuple(window if kind == _WINDOWED else 0 for kind in types)


def _layer_types(settings: Settings, family: Family, layers: int) -> list[str]:
    """The types where only a rule is given: gemma3 names every n-th layer, qwen the first with a window."""
    every = settings.integer("sliding_window_pattern", MAX_LAYERS, default=family.global_every, least=0)
    first = settings.integer("max_window_layers", MAX_LAYERS, default=0, least=0)
    return [_GLOBAL if i < first or (every and (i + 1) % every == 0) else _WINDOWED for i in range(layers)]


def _rope_frequencies(
    settings: Settings, family: Family, windows: tuple[int, ...], head_dim: int
) -> tuple[rope.Frequencies, ...]:
    rows = {kind: _frequencies(settings, family, kind, head_dim) for kind in (_GLOBAL, _WINDOWED)}
    return tuple(rows[_WINDOWED if window else _GLOBAL] for window in windows)


def _frequencies(settings: Settings, family: Family, kind: str, head_dim: int) -> rope.Frequencies:
    local = kind == _WINDOWED and family.local_rope_base is not None
    default_base = family.local_rope_base if local else family.hf_rope_base
    if "rope_parameters" in settings:  # transformers 5: one object, or one for each type of layer
        scaling = settings.part("rope_parameters")
        if _GLOBAL in scaling or _WINDOWED in scaling:
            scaling = scaling.part(kind)
        base = scaling.positive("rope_theta", default_base)
    else:  # transformers 4: the base beside the scaling, and the local base never scaled
        scaling = Settings(settings.path, {}) if local else settings.part("rope_scaling")
        base = settings.positive("rope_local_base_freq" if local else "rope_theta", default_base)
    for part in (settings, scaling):
        if part.get("partial_rotary_factor", 1) != 1:
            part.fail("partial_rotary_factor", "is not 1, which is not supported")
    return _scaled(rope.plain(base, head_dim), scaling)


def _scaled(frequencies: rope.Frequencies, scaling: Settings) -> rope.Frequencies:
    key = "type" if "type" in scaling else "rope_type"
    match scaling.one_of(key, ("default", "linear", "llama3"), default="default"):
        case "linear":
            return rope.linear(frequencies, scaling.positive("factor"))
        case "llama3":
            low, high = scaling.positive("low_freq_factor"), scaling.positive("high_freq_factor")
            if low >= high:
                scaling.fail(
                    "low_freq_factor", f"is {low}, but must be below high_freq_factor, which is {high}"
                )
            original = scaling.positive("original_max_position_embeddings")
            return rope.llama3(frequencies, scaling.positive("factor"), low, high, original)
    return frequencies
