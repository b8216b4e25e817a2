"""The family `qwen3`."""

from shortlist.spec.families.base import NORMS_OF_QUERY_AND_KEY, Family
from shortlist.spec.hf_key_groups import QWEN_WINDOW, activation, attention, biases
from shortlist.spec.keys import used

FAMILY = Family(
    "qwen3",
    "qwen3",
    "qwen3",
    extras=NORMS_OF_QUERY_AND_KEY,
    window_rule="late",
    hf_keys={
        **attention(32_768, 1e-6, 32, 128),
        **activation("silu"),
        **biases(attention_bias=False),
        **QWEN_WINDOW,
        "max_window_layers": used("layers before the first window", 28),
    },
)
