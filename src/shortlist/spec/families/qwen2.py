"""The family `qwen2`."""

from shortlist.spec.families.base import QKV_BIASES, Family
from shortlist.spec.hf_key_groups import QWEN_WINDOW, activation, attention
from shortlist.spec.keys import refused, used

FAMILY = Family(
    "qwen2",
    "qwen2",
    "qwen2",
    extras=QKV_BIASES,
    window_rule="late",
    hf_keys={
        **attention(32_768, 1e-6, 32),
        **activation("silu"),
        **QWEN_WINDOW,
        "max_window_layers": used("layers before the first window", 28),
        "use_mrope": refused("RoPE over several axes", False),
        "attention_bias": refused("the class has biases of q, k and v, and no others", True),
    },
)
