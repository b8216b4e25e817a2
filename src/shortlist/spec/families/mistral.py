"""The family `mistral`."""

from shortlist.spec.families.base import Family
from shortlist.spec.hf_key_groups import NO_EXPERTS, activation, attention, windows_everywhere
from shortlist.spec.keys import refused

FAMILY = Family(
    "mistral",
    "llama",
    "mistral",
    gguf_interleaved=True,
    window_rule="all",
    hf_keys={
        **attention(131_072, 1e-6, 8),
        **activation("silu"),
        **windows_everywhere(4096),
        **NO_EXPERTS,
        "attention_bias": refused("the class has no biases", False),
        "mlp_bias": refused("the class has no biases", False),
    },
)
