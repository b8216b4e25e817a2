"""The family `arcee`."""

from shortlist.spec.families.base import Family
from shortlist.spec.hf_key_groups import NO_WINDOWS, activation, attention, biases

FAMILY = Family(
    "arcee",
    "arcee",
    "arcee",
    activation="relu2",
    gated=False,
    gguf_interleaved=True,
    hf_keys={
        **attention(4096, 1e-5),
        **activation("relu2"),
        **biases(attention_bias=False, mlp_bias=False),
        **NO_WINDOWS,
    },
)
