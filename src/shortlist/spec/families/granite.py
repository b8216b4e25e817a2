"""The family `granite`: a llama with scales of embeddings, attention, what layers add, and logits."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from shortlist.spec.config import ModelConfig
from shortlist.spec.families.base import Family
from shortlist.spec.hf_key_groups import NO_WINDOWS, activation, attention, biases
from shortlist.spec.keys import refused, used
from shortlist.spec.settings import Settings


def hf_own(settings: Settings, config: ModelConfig) -> ModelConfig:
    """The configuration with the four scales of `config.json`."""
    return replace(
        config,
        embedding_scale=settings.positive("embedding_multiplier"),
        attention_scale=settings.positive("attention_multiplier"),
        residual_scale=settings.positive("residual_multiplier"),
        logit_scale=1 / settings.positive("logits_scaling"),
    )


def gguf_own(settings: Settings, config: ModelConfig, tensors: Mapping[str, Any]) -> ModelConfig:
    """The configuration with the four scales of a GGUF file; 0 is none, as in llama.cpp."""
    del tensors

    def scale(key: str, default: float = 1.0) -> float:
        return settings.positive(key) if settings.get(key, 0) else default

    settings.get("logit_scale")  # llama.cpp refuses a file without it
    return replace(
        config,
        embedding_scale=scale("embedding_scale"),
        attention_scale=scale("attention.scale", config.attention_scale),
        residual_scale=scale("residual_scale"),
        logit_scale=1 / scale("logit_scale"),
    )


FAMILY = Family(
    "granite",
    "granite",
    "granite",
    gguf_interleaved=True,
    hf_own=hf_own,
    gguf_own=gguf_own,
    hf_keys={
        **attention(2048, 1e-6),
        **activation("silu"),
        **biases(attention_bias=False, mlp_bias=False),
        **NO_WINDOWS,
        "embedding_multiplier": used("embeddings are multiplied by it", 1.0),
        "attention_multiplier": used("products of query and key are multiplied by it", 1.0),
        "residual_multiplier": used("what layers add is multiplied by it", 1.0),
        "logits_scaling": used("logits are divided by it", 1.0),
    },
    gguf_keys={
        "embedding_scale": used("embeddings are multiplied by it; 0: they are not"),
        "attention.scale": used("products of query and key are multiplied by it; 0: by one over a root"),
        "residual_scale": used("what layers add is multiplied by it; 0: it is not"),
        "logit_scale": used("logits are divided by it; 0: they are not"),
        "rope.scaling.finetuned": refused("false turns RoPE off in this architecture", True),
    },
)
