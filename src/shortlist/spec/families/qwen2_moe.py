"""The family `qwen2_moe`."""

from shortlist.spec.families.base import ExpertRules, Family
from shortlist.spec.hf_key_groups import QWEN_WINDOW, activation, attention, biases, mixture
from shortlist.spec.keys import used

FAMILY = Family(
    "qwen2_moe",
    "qwen2moe",
    "qwen2_moe",
    window_rule="alternate",
    experts=ExpertRules(gguf_normalize=False, shared=True),
    hf_keys={
        **attention(32_768, 1e-6, 16),
        **activation("silu"),
        **biases(qkv_bias=True),
        **QWEN_WINDOW,
        **mixture(
            num_experts=60,
            num_experts_per_tok=4,
            norm_topk_prob=False,
            moe_intermediate_size=1408,
            shared_expert_intermediate_size=5632,
        ),
        "max_window_layers": used("of the layers before it every second one has the window", 28),
    },
)
