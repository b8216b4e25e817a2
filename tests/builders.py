"""Tiny random models of every family, as Hugging Face folders and as GGUF files with the same weights.

The models come from `transformers`, so that they are oracles for shapes, names and values; the GGUF files
follow what llama.cpp's converter does to them.
"""

import copy
import functools
import re
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist
from typing import Any

import gguf
import numpy as np

from shortlist.spec.families import FAMILIES

_SIZES = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,  # logits that differ clearly
    "bos_token_id": 256,
    "eos_token_id": 258,
    "pad_token_id": 258,
}
# A head size that is not width / heads where the family states one; windows shorter than the tests' texts.
_OWN_SIZES: dict[str, dict[str, Any]] = {
    "llama": {},
    "arcee": {"tie_word_embeddings": True},
    "mistral": {"sliding_window": 8},
    "olmo2": {},
    "granite": {
        "initializer_range": 0.15,
        "embedding_multiplier": 3.0,
        "attention_multiplier": 0.5,
        "residual_multiplier": 0.25,
        "logits_scaling": 2.5,
    },
    # Half precision of keys is coarse for the scores of wide weights that do not turn.
    "smollm3": {"num_hidden_layers": 5, "initializer_range": 0.1},
    "phi3": {"initializer_range": 0.15, "head_dim": 16, "partial_rotary_factor": 0.5, "sliding_window": 8},
    "qwen2": {},
    "qwen3": {"head_dim": 32},
    "gemma3": {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 8, "num_hidden_layers": 6},
    # Two kinds of layer with and without a cutoff, each kind shared by a later one; FFNs of several widths.
    "gemma3n": {
        "head_dim": 32,
        "sliding_window": 8,
        "num_hidden_layers": 6,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2,
        "intermediate_size": [96, 70, 96, 128, 96, 96],
        "activation_sparsity_pattern": [0.9, 0.7, 0.0, 0.9, 0.0, 0.5],
        "vocab_size_per_layer_input": 300,
        "hidden_size_per_layer_input": 20,
        "laurel_rank": 12,
        "final_logit_softcapping": 5.0,
    },
    "mixtral": {"num_local_experts": 5, "num_experts_per_tok": 2},
    "qwen2_moe": {
        "num_experts": 6,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 64,
    },
    "qwen3_moe": {
        "head_dim": 32,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "norm_topk_prob": True,
    },
    "olmoe": {"num_experts": 7, "num_experts_per_tok": 3, "intermediate_size": 32},
}
_SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_MERGES = (("t", "h"), ("th", "e"), ("Ġ", "the"))


def tiny_model(family: str, **overrides: Any) -> Any:
    """A random float32 `transformers` model of one of `FAMILIES`; the same for the same arguments."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = copy.deepcopy(
        {**_SIZES, **_OWN_SIZES[family], **overrides}
    )  # a configuration completes its objects
    config = AutoConfig.for_model(FAMILIES[family].hf_model_type, **sizes)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # norms and biases start as ones and zeros, which would hide mistakes
                parameter += 0.1 * torch.randn_like(parameter)
        for name, parameter in model.named_parameters():
            if family == "gemma3n" and "k_norm" in name:
                parameter *= config.head_dim**-0.5  # attention has no scale of its own
            if "modality_router" in name:
                parameter *= config.hidden_size / 4  # its input is divided by all of it
    return model


def tiny_hf(
    family: str, folder: Path, *, dtype: str = "float32", max_shard_size: str = "5GB", **overrides: Any
) -> Any:
    """Write a tiny model and a byte-level tokenizer as a Hugging Face folder; returns the model."""
    import torch

    model = tiny_model(family, **overrides).to(getattr(torch, dtype))
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    _hf_tokenizer(model.config.vocab_size).save_pretrained(folder)
    return model


def tiny_gguf(
    family: str,
    path: Path,
    type: str = "F32",
    template: str | None = None,
    more: Callable[[gguf.GGUFWriter], object] | None = None,
    **overrides: Any,
) -> Any:
    """Write a tiny model and a byte-level tokenizer as a GGUF file; returns the model.

    Matrices are stored as `type`, which must be one that the `gguf` library can write: not the K-quants.
    `more` adds keys and tensors.
    """
    if FAMILIES[family].window_rule == "all":
        overrides = {"sliding_window": None, **overrides}  # llama.cpp has no windows there
    model = tiny_model(family, **overrides)
    config = model.config
    architecture = FAMILIES[family].gguf_architecture
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    if family == "gemma3n":
        _add_gemma3n(writer, config)
    if family == "granite":
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_logit_scale(config.logits_scaling)
    if family == "phi3":
        share = config.rope_parameters["partial_rotary_factor"]
        writer.add_rope_dimension_count(int(share * config.head_dim))
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    if window := getattr(config, "sliding_window", None):
        writer.add_sliding_window(window)
    if FAMILIES[family].experts:
        _add_experts(writer, config)
    _add_rope(writer, model, head_dim)
    if more:
        more(writer)
    _add_tokenizer(writer, config.vocab_size)
    if template is not None:
        writer.add_chat_template(template)
    for name, weight in _stacked(model.state_dict()).items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        for gguf_name, array in _as_converter_does(family, name, weight.numpy(), config).items():
            matrix = array.ndim > 1 and array.shape[-1] % 32 == 0 and "gate_inp" not in gguf_name
            kind = gguf.GGMLQuantizationType[type if matrix else "F32"]
            writer.add_tensor(gguf_name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def byte_level_vocabulary(size: int) -> list[str]:
    """`size` tokens: the 256 bytes as GPT-2 spells them, special tokens, three merges, and unused ones."""
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = [*sorted(ByteLevel.alphabet()), *_SPECIAL_TOKENS, *map("".join, _MERGES)]
    return tokens + [f"<unused{i}>" for i in range(size - len(tokens))]


def _hf_tokenizer(vocab_size: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate(byte_level_vocabulary(vocab_size))}
    tokenizer = Tokenizer(models.BPE(vocabulary, list(_MERGES)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(_SPECIAL_TOKENS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )


def _add_tokenizer(writer: gguf.GGUFWriter, vocab_size: int) -> None:
    tokens = byte_level_vocabulary(vocab_size)
    control, unused = gguf.TokenType.CONTROL, gguf.TokenType.UNUSED
    types = {
        **dict.fromkeys(_SPECIAL_TOKENS, control),
        **{t: unused for t in tokens if t.startswith("<unused")},
    }
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([types.get(token, gguf.TokenType.NORMAL) for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in _MERGES])
    writer.add_bos_token_id(tokens.index("<|endoftext|>"))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_add_bos_token(False)


def _add_rope(writer: gguf.GGUFWriter, model: Any, head_dim: int) -> None:
    parameters = model.config.rope_parameters
    parameters = parameters.get("full_attention", parameters)
    writer.add_rope_freq_base(parameters["rope_theta"])
    match parameters["rope_type"]:
        case "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(parameters["factor"])
        case "yarn":
            writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
            writer.add_rope_scaling_factor(parameters["factor"])
            writer.add_rope_scaling_orig_ctx_len(parameters["original_max_position_embeddings"])
            writer.add_rope_scaling_yarn_beta_fast(parameters.get("beta_fast", 32.0))
            writer.add_rope_scaling_yarn_beta_slow(parameters.get("beta_slow", 1.0))
        case "llama3":
            plain = parameters["rope_theta"] ** -(np.arange(0, head_dim, 2, dtype=np.float32) / head_dim)
            writer.add_tensor("rope_freqs.weight", plain / model.model.rotary_emb.inv_freq.numpy())


def _add_gemma3n(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_altup_active_idx(config.altup_active_idx)
    writer.add_altup_num_inputs(config.altup_num_inputs)
    writer.add_embedding_length_per_layer_input(config.hidden_size_per_layer_input)
    writer.add_shared_kv_layers(config.num_kv_shared_layers)
    writer.add_final_logit_softcapping(config.final_logit_softcapping)
    writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in config.layer_types])
    shares = config.activation_sparsity_pattern
    scales = [NormalDist().inv_cdf(share) if share else float("-inf") for share in shares]
    writer.add_activation_sparsity_scale(scales)


def _stacked(weights: dict[str, Any]) -> dict[str, Any]:
    """Weights with the matrices of gemma3n's streams as one tensor, and its scales named like the others."""
    import torch

    found: dict[str, Any] = {}
    stacks: dict[str, list[Any]] = {}
    for name, weight in weights.items():
        if match := re.fullmatch(r"(model\.altup_\w*projections)\.\d+(\.weight)", name):
            stacks.setdefault("".join(match.groups()), []).append(weight)
        else:
            found[name + ".weight" if name.endswith("_scale") else name] = weight
    return found | {name: torch.stack(stack) for name, stack in stacks.items()}


def _add_experts(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_expert_count(
        config.num_local_experts if hasattr(config, "num_local_experts") else config.num_experts
    )
    writer.add_expert_used_count(config.num_experts_per_tok)
    if width := getattr(config, "moe_intermediate_size", None):
        writer.add_expert_feed_forward_length(width)
    if width := getattr(config, "shared_expert_intermediate_size", None):
        writer.add_expert_shared_feed_forward_length(width)


def _as_converter_does(family: str, name: str, array: np.ndarray, config: Any) -> dict[str, np.ndarray]:
    """The tensors that a Hugging Face tensor becomes, by their names."""
    if name.endswith("experts.gate_up_proj"):
        layer = name.removesuffix("gate_up_proj")
        gate, up = np.split(array, 2, axis=1)
        names = (_gguf_name(family, f"{layer}{kind}_proj.weight") for kind in ("gate", "up"))
        return dict(zip(names, (gate, up), strict=True))
    if name.endswith("shared_expert_gate.weight"):
        array = array[0]
    if name.endswith("experts.down_proj"):
        name += ".weight"
    return {_gguf_name(family, name): _reordered(family, name, array, config)}


def _reordered(family: str, name: str, array: np.ndarray, config: Any) -> np.ndarray:
    if family == "gemma3" and name.endswith("norm.weight"):
        return array + 1
    if FAMILIES[family].gguf_interleaved and "q_proj" in name:
        return _interleaved(array, config.num_attention_heads)
    if FAMILIES[family].gguf_interleaved and "k_proj" in name:
        return _interleaved(array, config.num_key_value_heads)
    return array


def _interleaved(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head reordered from halves to neighbours: `permute` in llama.cpp's converter."""
    halves = array.reshape(heads, 2, -1, *array.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(array.shape))


def _gguf_name(family: str, name: str) -> str:
    """The name that the `gguf` library's own map gives, which is the oracle of ours."""
    found = _gguf_names(FAMILIES[family].gguf_architecture).get_name(name, try_suffixes=(".weight", ".bias"))
    assert found is not None, name
    return found


@functools.cache
def _gguf_names(architecture: str) -> gguf.TensorNameMap:
    by_name = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    return gguf.get_tensor_name_map(by_name[architecture], 64)
