"""Groups of `config.json` keys that several families have; each family's file says which."""

from typing import Any

from shortlist.spec.keys import Key, harmless, refused, used

_WIDTH = {
    "vocab_size": used("rows of embedding and head"),
    "hidden_size": used("width"),
    "num_hidden_layers": used("layers"),
    "num_attention_heads": used("query heads"),
}
"""Sizes that a file must state."""

NO_WINDOW = "the family's class attends to everything before a token, whatever stands here"


def attention(
    context: int, eps: float, kv_heads: int | None = None, head_dim: int | None = None, *, tied: bool = False
) -> dict[str, Key]:
    return {
        **_WIDTH,
        "intermediate_size": used("neurons of a feed-forward layer, or of each layer"),
        "num_key_value_heads": used("key and value heads; null: as many as query heads", kv_heads),
        "head_dim": used("size of a head; null: width / heads", head_dim),
        "max_position_embeddings": used("longest context", context),
        "rms_norm_eps": used("added to the mean square inside each norm", eps),
        "tie_word_embeddings": used("the head is the embedding, unless the files hold another", tied),
        "final_logit_softcapping": refused("a cap of logits"),
    }


def activation(name: str, key: str = "hidden_act") -> dict[str, Key]:
    return {key: used("activation of feed-forward layers", name)}


def biases(**defaults: bool) -> dict[str, Key]:
    what = {
        "attention_bias": "q, k, v and o have biases",
        "mlp_bias": "gate, up and down have biases",
        "qkv_bias": "q, k and v have biases",
    }
    return {key: used(what[key], default) for key, default in defaults.items()}


QWEN_WINDOW = {
    "use_sliding_window": used("whether sliding_window holds", False),
    "sliding_window": used("positions that layers with a window see", 4096),
    "layer_types": used("which layers have the window"),
}
NO_EXPERTS = {
    "num_local_experts": refused("experts, which this family has not", 0, 1),
    "num_experts": refused("experts, which this family has not", 0, 1),
}


def windows_everywhere(default: int | None) -> dict[str, Key]:
    return {
        "sliding_window": used("positions that every layer sees; null: all", default),
        "use_sliding_window": refused("the class has the window wherever sliding_window is a number", True),
        "layer_types": used("must be the same for all layers: the class has one window for all"),
    }


def mixture(step: bool = True, **defaults: Any) -> dict[str, Key]:
    what = {
        "num_experts": "experts of a layer",
        "num_local_experts": "experts of a layer",
        "num_experts_per_tok": "experts that a token computes",
        "norm_topk_prob": "weights of the chosen experts are divided by their sum",
        "moe_intermediate_size": "neurons of an expert",
        "shared_expert_intermediate_size": "neurons of the shared expert",
    }
    experts = {key: used(what[key], value) for key, value in defaults.items()}
    if not step:
        return experts
    return experts | {
        "decoder_sparse_step": used("every so many layers are mixtures", 1),
        "mlp_only_layers": used("layers that are dense all the same"),
    }


SAME_NUMBER = used("another name for the same number")
NO_WINDOWS = harmless(NO_WINDOW, "sliding_window use_sliding_window max_window_layers") | {
    "layer_types": used("must be full_attention for all layers: the class has no other"),
}

GEMMA = {
    "sliding_window": used("positions that layers with a window see", 4096),
    "layer_types": used("which layers have the window"),
    "rope_local_base_freq": used("base of RoPE in layers with a window, as transformers 4 spells it"),
    **harmless("transformers does not read it", "_sliding_window_pattern"),
}
