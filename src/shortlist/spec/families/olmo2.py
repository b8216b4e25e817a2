"""The family `olmo2`: norms behind attention and feed-forward, none before; wide query and key norms."""

from shortlist.spec.families.base import NORMS_OF_QUERY_AND_KEY, POST_NORMS, Family
from shortlist.spec.hf_key_groups import activation, attention, biases
from shortlist.spec.keys import refused, used

FAMILY = Family(
    "olmo2",
    "olmo2",
    "olmo2",
    extras=NORMS_OF_QUERY_AND_KEY + POST_NORMS,
    pre_norms=False,
    wide_norms=True,
    hf_layer_names=(
        ("post_attention_layernorm", "post_attention_norm"),
        ("post_feedforward_layernorm", "post_ffn_norm"),
    ),
    hf_keys={
        **attention(2048, 1e-5),
        **activation("silu"),
        **biases(attention_bias=False),
        "sliding_window": refused("a window, which belongs to olmo3"),
        "layer_types": used("must be full_attention for all layers: the class has no other"),
    },
    gguf_keys={
        "attention.sliding_window": refused("a window, which belongs to olmo3", 0),
        "attention.sliding_window_pattern": refused("windows, which belong to olmo3"),
        "rope.freq_base_swa": refused("windows, which belong to olmo3"),
    },
)
