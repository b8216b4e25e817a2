"""The family `olmoe`."""

from shortlist.spec.families.base import NORMS_OF_QUERY_AND_KEY, ExpertRules, Family
from shortlist.spec.hf_key_groups import SAME_NUMBER, activation, attention, biases, mixture
from shortlist.spec.keys import refused, used

FAMILY = Family(
    "olmoe",
    "olmoe",
    "olmoe",
    extras=NORMS_OF_QUERY_AND_KEY,
    wide_norms=True,
    experts=ExpertRules(gguf_normalize=False),
    hf_keys={
        "num_local_experts": SAME_NUMBER,
        **attention(4096, 1e-5),
        **activation("silu"),
        **biases(attention_bias=False),
        **mixture(step=False, num_experts=64, num_experts_per_tok=8, norm_topk_prob=False),
        "clip_qkv": refused("values of q, k and v that are clipped"),
        "sliding_window": refused(
            "a window, which some implementations of attention apply and others do not"
        ),
        "layer_types": used("must be full_attention for all layers: the class has no other"),
    },
)
