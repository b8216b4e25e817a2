"""The model families: what distinguishes one from another, as data.

One decoder runs all of them. A family says how its checkpoints are recognised, which constants they leave
unsaid, and which tensors a layer has beyond those that every decoder here has.
"""

from dataclasses import dataclass
from typing import Literal

from shortlist.spec.config import Activation
from shortlist.spec.expert_tensors import GGUF_EXPERT_NAMES, HF_EXPERT_NAMES, HF_SHARED_ROUTER_NAMES

QKV_BIASES = ("q_bias", "k_bias", "v_bias")
ATTENTION_BIASES = (*QKV_BIASES, "o_bias")
FFN_BIASES = ("gate_bias", "up_bias", "down_bias")
BIASES = ATTENTION_BIASES + FFN_BIASES
"""Those that layers may have."""

NORMS_OF_QUERY_AND_KEY = ("q_norm", "k_norm")
POST_NORMS = ("post_attention_norm", "post_ffn_norm")
KEYS_AND_VALUES = ("k", "v", "k_norm", "k_bias", "v_bias")
LAUREL = ("laurel_left", "laurel_right", "laurel_norm")
ALTUP = ("altup_router", "altup_router_norm", "altup_predict", "altup_correct", "altup_scale")
LAYER_INPUT = ("input_gate", "input_up", "input_norm")


@dataclass(frozen=True)
class ExpertRules:
    """What the checkpoints of a family of mixtures of experts leave unsaid.

    Parameters
    ----------
    gguf_normalize
        Whether the weights of the chosen experts are divided by their sum; llama.cpp knows it by heart.
    hf_normalize
        The same for Hugging Face models whose class has no such setting.
    hf_count
        The key of `config.json` that counts them.
    shared
        Every mixture has a shared expert with a gate of its own.
    """

    gguf_normalize: bool
    hf_normalize: bool = False
    hf_count: Literal["num_experts", "num_local_experts"] = "num_experts"
    shared: bool = False


@dataclass(frozen=True)
class Family:
    """One family of decoders.

    Parameters
    ----------
    name
        What `ModelConfig.family` says.
    gguf_architecture
        `general.architecture` of its GGUF files.
    hf_model_type
        `model_type` in `config.json` of its Hugging Face folders.
    hf_wrapper
        `model_type` of folders that hold such a model as their `text_config`, beside encoders of images and
        sound.
    extras
        Tensors that each layer must have in addition to those of every decoder.
    activation
        Of the feed-forward layer where the checkpoint does not say.
    gated
        The feed-forward layer multiplies activation(gate) with up; without a gate it is activation(up).
    gguf_interleaved
        The GGUF converter reorders rows of q and k so that rotated pairs are neighbours.
    scaled_embedding
        Embeddings are multiplied by the square root of the width.
    hf_norm_offset
        Added to norm weights as Hugging Face stores them.
    window_rule
        Which layers have the window of a Hugging Face model whose file does not list them. `none`: no layer
        ever has one. `all`. `late`: those from `max_window_layers` on. `alternate`: every second one before
        it. `most`: all but every `global_every`-th; GGUF files have windows in this case alone.
    global_every
        Every n-th layer ignores the window.
    hf_rope_base
        RoPE base where `config.json` does not say.
    local_rope_base
        RoPE base of the layers with a window where the checkpoint does not say; None = as in the others.
    attention_scale
        Multiplies the products of query and key; None: as the size of a head says.
    gguf_logit_cap
        Of logits where a GGUF file does not say; None: they are not capped.
    value_norm
        Values are normed, head by head and without weights.
    streams
        There are several residual streams and inputs for every layer, see `config.Streams`.
    hf_layer_names
        Hugging Face names that differ from `HF_LAYER_NAMES`.
    wide_norms
        Norms of queries and keys are over all heads together.
    experts
        Of a family whose feed-forward layers are mixtures of experts, some of them at least.
    """

    name: str
    gguf_architecture: str
    hf_model_type: str
    hf_wrapper: str | None = None
    extras: tuple[str, ...] = ()
    activation: Activation = "silu"
    gated: bool = True
    gguf_interleaved: bool = False
    scaled_embedding: bool = False
    hf_norm_offset: float = 0.0
    window_rule: Literal["none", "all", "late", "alternate", "most"] = "none"
    global_every: int = 0
    hf_rope_base: float = 10_000.0
    local_rope_base: float | None = None
    attention_scale: float | None = None
    gguf_logit_cap: float | None = None
    value_norm: bool = False
    streams: bool = False
    hf_layer_names: tuple[tuple[str, str], ...] = ()
    wide_norms: bool = False
    experts: ExpertRules | None = None

    @property
    def layer_tensors(self) -> tuple[str, ...]:
        """What each dense layer must have."""
        shared = LAYER_TENSORS if self.gated else tuple(name for name in LAYER_TENSORS if name != "gate")
        return shared + self.extras

    @property
    def mixture_tensors(self) -> tuple[str, ...]:
        """What a layer must have besides the tensors of a mixture (`mixture_shapes`)."""
        return tuple(name for name in self.layer_tensors if name not in FFN_TENSORS)


# Files of mistral carry the GGUF architecture of llama, so `llama` is what a GGUF file of it is called here.
FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("llama", "llama", "llama", gguf_interleaved=True),
        Family("mistral", "llama", "mistral", gguf_interleaved=True, window_rule="all"),
        Family("arcee", "arcee", "arcee", activation="relu2", gated=False, gguf_interleaved=True),
        Family("qwen2", "qwen2", "qwen2", extras=QKV_BIASES, window_rule="late"),
        Family("qwen3", "qwen3", "qwen3", extras=NORMS_OF_QUERY_AND_KEY, window_rule="late"),
        Family(
            "gemma3",
            "gemma3",
            "gemma3_text",
            extras=NORMS_OF_QUERY_AND_KEY + POST_NORMS,
            activation="gelu_tanh",
            scaled_embedding=True,
            hf_norm_offset=1.0,
            window_rule="most",
            global_every=6,
            hf_rope_base=1_000_000.0,
            local_rope_base=10_000.0,
            hf_layer_names=(
                ("post_attention_layernorm", "post_attention_norm"),
                ("pre_feedforward_layernorm", "ffn_norm"),
                ("post_feedforward_layernorm", "post_ffn_norm"),
            ),
        ),
        Family(
            "gemma3n",
            "gemma3n",
            "gemma3n_text",
            hf_wrapper="gemma3n",
            extras=NORMS_OF_QUERY_AND_KEY + POST_NORMS + LAUREL + ALTUP + LAYER_INPUT,
            activation="gelu_tanh",
            scaled_embedding=True,
            window_rule="most",
            global_every=5,
            hf_rope_base=1_000_000.0,
            local_rope_base=10_000.0,
            attention_scale=1.0,
            gguf_logit_cap=30.0,
            value_norm=True,
            streams=True,
            hf_layer_names=(
                ("post_attention_layernorm", "post_attention_norm"),
                ("pre_feedforward_layernorm", "ffn_norm"),
                ("post_feedforward_layernorm", "post_ffn_norm"),
            ),
        ),
        Family(
            "mixtral",
            "llama",
            "mixtral",
            gguf_interleaved=True,
            window_rule="all",
            hf_rope_base=1_000_000.0,
            experts=ExpertRules(gguf_normalize=True, hf_normalize=True, hf_count="num_local_experts"),
        ),
        Family(
            "qwen2_moe",
            "qwen2moe",
            "qwen2_moe",
            window_rule="alternate",
            experts=ExpertRules(gguf_normalize=False, shared=True),
        ),
        Family(
            "qwen3_moe",
            "qwen3moe",
            "qwen3_moe",
            extras=NORMS_OF_QUERY_AND_KEY,
            window_rule="all",
            experts=ExpertRules(gguf_normalize=True),
        ),
        Family(
            "olmoe",
            "olmoe",
            "olmoe",
            extras=NORMS_OF_QUERY_AND_KEY,
            wide_norms=True,
            experts=ExpertRules(gguf_normalize=False),
        ),
    )
}

LAYER_TENSORS = ("attention_norm", "q", "k", "v", "o", "ffn_norm", "gate", "up", "down")
"""What a layer of every family has, but for the gate of those without one."""

MOST_STREAMS = 16
FFN_TENSORS = ("gate", "up", "down")

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


def canonical_gguf_name(name: str) -> str | None:
    """Name that the decoder uses for a GGUF tensor; None when no family here has such a tensor."""
    return _canonical(name, GGUF_NAMES, "blk.", GGUF_LAYER_NAMES | GGUF_EXPERT_NAMES)


def canonical_hf_name(name: str, family: Family) -> str | None:
    """Name that the decoder uses for a Hugging Face tensor; None when no family here has such a tensor."""
    own_names = {f"{theirs}.weight": ours for theirs, ours in family.hf_layer_names}
    return _canonical(
        name, HF_NAMES | HF_SHARED_ROUTER_NAMES, "model.layers.", HF_LAYER_NAMES | HF_EXPERT_NAMES | own_names
    )


def gguf_name(name: str) -> str:
    """How a GGUF file spells one of the decoder's names."""
    return _spelled(name, GGUF_NAMES, "blk.", GGUF_LAYER_NAMES | GGUF_EXPERT_NAMES)


def hf_name(name: str, family: Family) -> str:
    """How a Hugging Face file spells one of the decoder's names."""
    own_names = {f"{theirs}.weight": ours for theirs, ours in family.hf_layer_names}
    outside = HF_NAMES | HF_SHARED_ROUTER_NAMES
    return _spelled(name, outside, "model.layers.", HF_EXPERT_NAMES | HF_LAYER_NAMES | own_names)


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
