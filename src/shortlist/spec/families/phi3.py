"""The family `phi3`: files fuse q, k and v, and gate and up; RoPE may turn a part of each head."""

from shortlist.spec.families.base import Family
from shortlist.spec.hf_key_groups import activation, attention, windows_everywhere
from shortlist.spec.keys import Key, refused, used

FAMILY = Family(
    "phi3",
    "phi3",
    "phi3",
    window_rule="all",
    fused={"qkv": ("q", "k", "v"), "gate_up": ("gate", "up")},
    gguf_layer_names=(("ffn_up", "gate_up"),),
    hf_layer_names=(("self_attn.qkv_proj", "qkv"), ("mlp.gate_up_proj", "gate_up")),
    partial_rope=True,
    hf_rope_types=("default",),
    hf_keys={
        **attention(4096, 1e-5),
        **activation("silu"),
        **windows_everywhere(None),
        "attention_bias": refused("the class has no biases", False),
        "mlp_bias": refused("the class has no biases", False),
        "partial_rotary_factor": used("the share of each head that turns; default all"),
        "original_max_position_embeddings": Key("harmless", "of longrope, which is refused", default=4096),
    },
)
