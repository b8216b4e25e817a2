"""The family `gemma3`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from shortlist.spec.config import ModelConfig
from shortlist.spec.families.base import NORMS_OF_QUERY_AND_KEY, POST_NORMS, Family
from shortlist.spec.hf_key_groups import GEMMA, activation, attention, biases
from shortlist.spec.keys import harmless, used
from shortlist.spec.settings import Settings


def gguf_own(settings: Settings, config: ModelConfig, tensors: Mapping[str, Any]) -> ModelConfig:
    """The scale of attention, which no key says.

    Gemma 3 27B, alone with 62 layers, divides by another size than that of its heads.
    """
    del settings, tensors
    if config.layers != 62:
        return config
    return replace(config, attention_scale=(config.width / config.heads) ** -0.5)


FAMILY = Family(
    "gemma3",
    "gemma3",
    "gemma3_text",
    extras=NORMS_OF_QUERY_AND_KEY + POST_NORMS,
    activation="gelu_tanh",
    scaled_embedding=True,
    hf_norm_offset=1.0,
    window_rule="most",
    global_every=6,
    hf_rope_base=1_000_000.0,
    local_rope_base=10_000.0,
    hf_layer_names=(
        ("post_attention_layernorm", "post_attention_norm"),
        ("pre_feedforward_layernorm", "ffn_norm"),
        ("post_feedforward_layernorm", "post_ffn_norm"),
    ),
    gguf_own=gguf_own,
    hf_keys={
        **attention(131_072, 1e-6, 4, 256, tied=True),
        **activation("gelu_pytorch_tanh", "hidden_activation"),
        **biases(attention_bias=False),
        **GEMMA,
        **harmless("the class reads hidden_activation", "hidden_act"),
        "sliding_window_pattern": used("every so many layers see everything, where layer_types is absent", 6),
        "query_pre_attn_scalar": used("attention is scaled by one over its root", 256),
        "final_logit_softcapping": used("cap of logits; null: none"),
    },
)
