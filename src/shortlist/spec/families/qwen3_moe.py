"""The family `qwen3_moe`."""

from shortlist.spec.families.base import NORMS_OF_QUERY_AND_KEY, ExpertRules, Family
from shortlist.spec.hf_key_groups import QWEN_WINDOW, SAME_NUMBER, activation, attention, biases, mixture
from shortlist.spec.keys import harmless, refused, used

FAMILY = Family(
    "qwen3_moe",
    "qwen3moe",
    "qwen3_moe",
    extras=NORMS_OF_QUERY_AND_KEY,
    window_rule="all",
    experts=ExpertRules(gguf_normalize=True),
    hf_keys={
        "num_local_experts": SAME_NUMBER,
        **attention(32_768, 1e-6, 4),
        **activation("silu"),
        **biases(attention_bias=False),
        **QWEN_WINDOW,
        **mixture(num_experts=128, num_experts_per_tok=8, norm_topk_prob=False, moe_intermediate_size=768),
        "layer_types": used("must be the same for all layers: the class has one window for all"),
        "shared_expert_intermediate_size": refused("a shared expert, which this family has not", 0),
        **harmless("the class has one window for all layers", "max_window_layers"),
    },
)
