"""The family `mixtral`."""

from shortlist.spec.families.base import ExpertRules, Family
from shortlist.spec.hf_key_groups import SAME_NUMBER, activation, attention, mixture, windows_everywhere
from shortlist.spec.keys import refused

FAMILY = Family(
    "mixtral",
    "llama",
    "mixtral",
    gguf_interleaved=True,
    window_rule="all",
    hf_rope_base=1_000_000.0,
    experts=ExpertRules(gguf_normalize=True, hf_normalize=True, hf_count="num_local_experts"),
    hf_keys={
        "num_experts": SAME_NUMBER,
        **attention(131_072, 1e-5, 8),
        **activation("silu"),
        **windows_everywhere(None),
        **mixture(step=False, num_local_experts=8, num_experts_per_tok=2),
        "norm_topk_prob": refused("the class always divides weights by their sum", True),
    },
)
