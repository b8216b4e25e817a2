"""The family `llama`."""

from shortlist.spec.families.base import Family
from shortlist.spec.hf_key_groups import NO_EXPERTS, NO_WINDOWS, activation, attention, biases

FAMILY = Family(
    "llama",
    "llama",
    "llama",
    gguf_interleaved=True,
    hf_keys={
        **attention(2048, 1e-6),
        **activation("silu"),
        **biases(attention_bias=False, mlp_bias=False),
        **NO_WINDOWS,
        **NO_EXPERTS,
    },
)
