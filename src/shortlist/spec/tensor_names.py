"""How GGUF and Hugging Face files spell the tensors of all families, and the decoder's names for them."""

from shortlist.spec.expert_tensors import GGUF_EXPERT_NAMES, HF_EXPERT_NAMES, HF_SHARED_ROUTER_NAMES
from shortlist.spec.families.base import Family
from shortlist.spec.gemma3n import MOST_STREAMS

GGUF_NAMES = {
    "token_embd.weight": "embedding",
    "output.weight": "head",
    "output_norm.weight": "final_norm",
    "rope_freqs.weight": "rope_freqs",
    "per_layer_token_embd.weight": "input_table",
    "per_layer_model_proj.weight": "input_projection",
    "per_layer_proj_norm.weight": "input_table_norm",
    "altup_proj.weight": "expand",
    "altup_unembd_proj.weight": "merge",
}

GGUF_LAYER_NAMES = {
    "attn_norm.weight": "attention_norm",
    "attn_qkv.weight": "qkv",
    "attn_q.weight": "q",
    "attn_k.weight": "k",
    "attn_v.weight": "v",
    "attn_output.weight": "o",
    "attn_q.bias": "q_bias",
    "attn_k.bias": "k_bias",
    "attn_v.bias": "v_bias",
    "attn_output.bias": "o_bias",
    "attn_q_norm.weight": "q_norm",
    "attn_k_norm.weight": "k_norm",
    "post_attention_norm.weight": "post_attention_norm",
    "ffn_norm.weight": "ffn_norm",
    "ffn_gate.weight": "gate",
    "ffn_up.weight": "up",
    "ffn_down.weight": "down",
    "ffn_gate.bias": "gate_bias",
    "ffn_up.bias": "up_bias",
    "ffn_down.bias": "down_bias",
    "post_ffw_norm.weight": "post_ffn_norm",
    "laurel_l.weight": "laurel_left",
    "laurel_r.weight": "laurel_right",
    "laurel_post_norm.weight": "laurel_norm",
    "altup_router.weight": "altup_router",
    "altup_router_norm.weight": "altup_router_norm",
    "altup_predict_coef.weight": "altup_predict",
    "altup_correct_coef.weight": "altup_correct",
    "altup_correct_scale.weight": "altup_scale",
    "inp_gate.weight": "input_gate",
    "proj.weight": "input_up",
    "post_norm.weight": "input_norm",
}

HF_NAMES = {
    "model.embed_tokens.weight": "embedding",
    "lm_head.weight": "head",
    "model.norm.weight": "final_norm",
    "model.embed_tokens_per_layer.weight": "input_table",
    "model.per_layer_model_projection.weight": "input_projection",
    "model.per_layer_projection_norm.weight": "input_table_norm",
} | {
    f"model.{theirs}.{i}.weight": f"{ours}_{i + 1}"
    for theirs, ours in (("altup_projections", "expand"), ("altup_unembed_projections", "merge"))
    for i in range(MOST_STREAMS - 1)
}

HF_LAYER_NAMES = {
    "input_layernorm.weight": "attention_norm",
    "self_attn.q_proj.weight": "q",
    "self_attn.k_proj.weight": "k",
    "self_attn.v_proj.weight": "v",
    "self_attn.o_proj.weight": "o",
    "self_attn.q_proj.bias": "q_bias",
    "self_attn.k_proj.bias": "k_bias",
    "self_attn.v_proj.bias": "v_bias",
    "self_attn.o_proj.bias": "o_bias",
    "self_attn.q_norm.weight": "q_norm",
    "self_attn.k_norm.weight": "k_norm",
    "post_attention_layernorm.weight": "ffn_norm",
    "mlp.gate_proj.weight": "gate",
    "mlp.up_proj.weight": "up",
    "mlp.down_proj.weight": "down",
    "mlp.gate_proj.bias": "gate_bias",
    "mlp.up_proj.bias": "up_bias",
    "mlp.down_proj.bias": "down_bias",
    "laurel.linear_left.weight": "laurel_left",
    "laurel.linear_right.weight": "laurel_right",
    "laurel.post_laurel_norm.weight": "laurel_norm",
    "altup.modality_router.weight": "altup_router",
    "altup.router_norm.weight": "altup_router_norm",
    "altup.prediction_coefs.weight": "altup_predict",
    "altup.correction_coefs.weight": "altup_correct",
    "altup.correct_output_scale": "altup_scale",
    "per_layer_input_gate.weight": "input_gate",
    "per_layer_projection.weight": "input_up",
    "post_per_layer_input_norm.weight": "input_norm",
}


def canonical_gguf_name(name: str, family: Family) -> str | None:
    """Name that the decoder uses for a GGUF tensor; None when no family here has such a tensor."""
    return _canonical(name, GGUF_NAMES, "blk.", _gguf_layer_names(family))


def _gguf_layer_names(family: Family) -> dict[str, str]:
    own_names = {f"{theirs}.weight": ours for theirs, ours in family.gguf_layer_names}
    return GGUF_EXPERT_NAMES | GGUF_LAYER_NAMES | own_names


def canonical_hf_name(name: str, family: Family) -> str | None:
    """Name that the decoder uses for a Hugging Face tensor; None when no family here has such a tensor."""
    own_names = {f"{theirs}.weight": ours for theirs, ours in family.hf_layer_names}
    return _canonical(
        name, HF_NAMES | HF_SHARED_ROUTER_NAMES, "model.layers.", HF_LAYER_NAMES | HF_EXPERT_NAMES | own_names
    )


def gguf_name(name: str, family: Family) -> str:
    """How a GGUF file spells one of the decoder's names."""
    return _spelled(_whole(name, family), GGUF_NAMES, "blk.", _gguf_layer_names(family))


def hf_name(name: str, family: Family) -> str:
    """How a Hugging Face file spells one of the decoder's names."""
    own_names = {f"{theirs}.weight": ours for theirs, ours in family.hf_layer_names}
    outside = HF_NAMES | HF_SHARED_ROUTER_NAMES
    return _spelled(
        _whole(name, family), outside, "model.layers.", HF_EXPERT_NAMES | HF_LAYER_NAMES | own_names
    )


def _whole(name: str, family: Family) -> str:
    """The name of the matrix that a file holds this one in."""
    layer, _, inner = name.rpartition(".")
    return next((f"{layer}.{whole}" for whole, parts in family.fused.items() if inner in parts), name)


def _spelled(name: str, names: dict[str, str], layer_prefix: str, layer_names: dict[str, str]) -> str:
    in_layer, _, rest = name.partition(".")
    if in_layer != "layers":
        return next((theirs for theirs, ours in names.items() if ours == name), name)
    index, _, inner = rest.partition(".")
    word = next((word for word in inner.split(".") if _is_number(word)), "")
    pattern = ".".join("{}" if _is_number(each) else each for each in inner.split("."))
    # A family's own names stand last, and come before those of all.
    found = [theirs for theirs, ours in layer_names.items() if ours == pattern]
    return f"{layer_prefix}{index}.{found[-1].format(word)}" if found else name


def _canonical(
    name: str, names: dict[str, str], layer_prefix: str, layer_names: dict[str, str]
) -> str | None:
    if not name.startswith(layer_prefix):
        return names.get(name)
    index, _, rest = name.removeprefix(layer_prefix).partition(".")
    words = rest.split(".")
    numbers = [word for word in words if _is_number(word)]
    suffix = layer_names.get(".".join("{}" if _is_number(word) else word for word in words))
    if suffix is None or not _is_number(index) or len(numbers) != suffix.count("{}"):
        return None
    return f"layers.{index}.{suffix.format(*numbers)}"


def _is_number(word: str) -> bool:
    # "٣".isdigit() is true and "007" is not how a layer is numbered: only what str() writes counts.
    return word.isascii() and word.isdigit() and str(int(word[:9])) == word
