"""The family `smollm3`: a llama whose every fourth layer has no RoPE."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from shortlist.spec.config import ModelConfig
from shortlist.spec.families.base import Family
from shortlist.spec.hf_key_groups import NO_WINDOWS, activation, attention, biases
from shortlist.spec.keys import refused, used
from shortlist.spec.settings import MAX_LAYERS, Settings

_EVERY = 4


def hf_own(settings: Settings, config: ModelConfig) -> ModelConfig:
    """The configuration without RoPE in the layers that `config.json` lists with 0."""
    every = settings.integer("no_rope_layer_interval", MAX_LAYERS, default=_EVERY)
    rule = [int((i + 1) % every != 0) for i in range(config.layers)]
    turns = settings.get("no_rope_layers", rule)
    listed = isinstance(turns, list) and len(turns) == config.layers
    if not listed or any(type(each) is not int or each not in (0, 1) for each in turns):
        settings.fail("no_rope_layers", f"must be 0 or 1 for each of {config.layers} layers")
    return _without_rope(config, turns)


def gguf_own(settings: Settings, config: ModelConfig, tensors: Mapping[str, Any]) -> ModelConfig:
    """The configuration without RoPE in every fourth layer, which llama.cpp knows by heart."""
    del settings, tensors
    return _without_rope(config, [int((i + 1) % _EVERY != 0) for i in range(config.layers)])


def _without_rope(config: ModelConfig, turns: list[int]) -> ModelConfig:
    frequencies = zip(config.rope_frequencies, turns, strict=True)
    return replace(config, rope_frequencies=tuple(each if turn else () for each, turn in frequencies))


FAMILY = Family(
    "smollm3",
    "smollm3",
    "smollm3",
    gguf_interleaved=True,
    hf_rope_base=2_000_000.0,
    hf_own=hf_own,
    gguf_own=gguf_own,
    hf_keys={
        **attention(32_768, 1e-6, 4, tied=True),
        **activation("silu"),
        **biases(attention_bias=False, mlp_bias=False),
        **NO_WINDOWS,
        "use_sliding_window": refused("windows", False),
        "no_rope_layers": used("for each layer 1, or 0 where queries and keys do not turn"),
        "no_rope_layer_interval": used("every so many layers do not turn, where no_rope_layers is absent", 4),
    },
)
