"""Every key that the `config.json` of a family may have, as the family's class in transformers reads it.

The classes' own defaults stand here, because a file may leave out what equals them. A test compares all of it
with the installed classes.
"""

from typing import Any

from shortlist.spec.keys import Key, harmless, refused, used

_TRAINING = "matters in training only"
_NAMES = "names and provenance"
_CHOICE = "how transformers computes or returns something, not what"
_GENERATION = "transformers drops settings of generation here; generation_config.json has them"

BASE: dict[str, Key] = {
    "model_type": used("the family"),
    "bos_token_id": used("the token that starts a text"),
    "eos_token_id": used("the tokens that end a text; those of generation_config.json are added"),
    "rope_theta": used("base of RoPE, as transformers 4 spells it"),
    "rope_scaling": used("scaling of RoPE, as transformers 4 spells it; it comes before rope_parameters"),
    "rope_parameters": used("base and scaling of RoPE, as transformers 5 spells them"),
    "original_max_position_embeddings": used(
        "context before scaling of RoPE; comes before that of rope_scaling"
    ),
    "shortlist": used("mixtures that `shortlist convert` made"),
    **harmless(
        _NAMES,
        "architectures _name_or_path name_or_path _commit_hash transformers_version model_name "
        "auto_map custom_pipelines transformers.js_config is_llama_config tokenizer_class "
        "unsloth_version unsloth_fixed task_specific_params finetuning_task max_sequence_length",
    ),
    **harmless("the tensors have types of their own", "dtype torch_dtype use_bfloat16"),
    **harmless(
        "of classifiers, and the tensors say that there is none",
        "id2label label2id num_labels",
    ),
    **harmless(
        "of classifiers, and the tensors say that there is none",
        "problem_type classifier_dropout",
    ),
    **harmless(
        _TRAINING,
        "initializer_range attention_dropout hidden_dropout resid_pdrop embd_pdrop attn_pdrop "
        "gradient_checkpointing output_router_logits router_aux_loss_coef router_jitter_noise "
        "neftune_noise_alpha altup_coef_clip",
    ),
    **harmless(
        _CHOICE,
        "use_cache cache_implementation pretraining_tp chunk_size_feed_forward output_attentions "
        "output_hidden_states return_dict use_return_dict torchscript tf_legacy_loss "
        "attn_implementation _attn_implementation _attn_implementation_autoset use_flash_attn "
        "_flash_attn_2_enabled experts_implementation _experts_implementation "
        "tie_last_hidden_states is_decoder cross_attention_hidden_size",
    ),
    **harmless("texts are not padded", "pad_token_id"),
    **harmless(
        _GENERATION,
        "max_length max_new_tokens min_length do_sample early_stopping num_beams temperature "
        "top_k top_p min_p typical_p repetition_penalty length_penalty num_return_sequences "
        "no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids output_scores "
        "return_dict_in_generate forced_bos_token_id forced_eos_token_id remove_invalid_values "
        "exponential_decay_length_penalty suppress_tokens begin_suppress_tokens epsilon_cutoff "
        "eta_cutoff encoder_repetition_penalty num_assistant_tokens num_assistant_tokens_schedule "
        "assistant_confidence_threshold assistant_lookbehind target_lookbehind num_beam_groups "
        "diversity_penalty prefix sep_token_id decoder_start_token_id",
    ),
    "partial_rotary_factor": refused("RoPE that turns a part of each head", 1),
    "rope_interleaved": refused("RoPE over neighbouring pairs", False),
    "is_encoder_decoder": refused("a model of two halves", False),
    "add_cross_attention": refused("attention to another model", False),
    "tie_encoder_decoder": refused("a model of two halves", False),
    "pruned_heads": refused("heads that were taken out", {}, []),
    "is_causal": refused("attention to later tokens", True),
    "use_bidirectional_attention": refused("attention to later tokens", False),
    "quantization_config": refused("weights in the format of another library; use a GGUF file of the model"),
    "per_layer_config": refused("settings that differ from layer to layer", {}),
    "attention_multiplier": refused("another scale of attention"),
    "embedding_multiplier": refused("another scale of embeddings", 1),
    "residual_multiplier": refused("another scale of what layers add", 1),
    "logits_scaling": refused("another scale of logits", 1),
    "attn_logit_softcapping": refused("a cap of attention scores"),
}
"""Keys of every family: those of `PreTrainedConfig`, now and earlier, and of tools that write such files."""

_WIDTH = {
    "vocab_size": used("rows of embedding and head"),
    "hidden_size": used("width"),
    "num_hidden_layers": used("layers"),
    "num_attention_heads": used("query heads"),
}
"""Sizes that a file must state."""

_NO_WINDOW = "the family's class attends to everything before a token, whatever stands here"


def _attention(
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


def _activation(name: str, key: str = "hidden_act") -> dict[str, Key]:
    return {key: used("activation of feed-forward layers", name)}


def _biases(**defaults: bool) -> dict[str, Key]:
    what = {
        "attention_bias": "q, k, v and o have biases",
        "mlp_bias": "gate, up and down have biases",
        "qkv_bias": "q, k and v have biases",
    }
    return {key: used(what[key], default) for key, default in defaults.items()}


_QWEN_WINDOW = {
    "use_sliding_window": used("whether sliding_window holds", False),
    "sliding_window": used("positions that layers with a window see", 4096),
    "layer_types": used("which layers have the window"),
}
_NO_EXPERTS = {
    "num_local_experts": refused("experts, which this family has not", 0, 1),
    "num_experts": refused("experts, which this family has not", 0, 1),
}


def _windows_everywhere(default: int | None) -> dict[str, Key]:
    return {
        "sliding_window": used("positions that every layer sees; null: all", default),
        "use_sliding_window": refused("the class has the window wherever sliding_window is a number", True),
        "layer_types": used("must be the same for all layers: the class has one window for all"),
    }


def _mixture(step: bool = True, **defaults: Any) -> dict[str, Key]:
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


_SAME_NUMBER = used("another name for the same number")
_LLAMA_OTHERS = harmless(_NO_WINDOW, "sliding_window use_sliding_window max_window_layers") | {
    "layer_types": used("must be full_attention for all layers: the class has no other"),
}

_GEMMA = {
    "sliding_window": used("positions that layers with a window see", 4096),
    "layer_types": used("which layers have the window"),
    "rope_local_base_freq": used("base of RoPE in layers with a window, as transformers 4 spells it"),
    **harmless("transformers does not read it", "_sliding_window_pattern"),
}

FAMILY_KEYS: dict[str, dict[str, Key]] = {
    "llama": {
        **_attention(2048, 1e-6),
        **_activation("silu"),
        **_biases(attention_bias=False, mlp_bias=False),
        **_LLAMA_OTHERS,
        **_NO_EXPERTS,
    },
    "mistral": {
        **_attention(131_072, 1e-6, 8),
        **_activation("silu"),
        **_windows_everywhere(4096),
        **_NO_EXPERTS,
        "attention_bias": refused("the class has no biases", False),
        "mlp_bias": refused("the class has no biases", False),
    },
    "arcee": {
        **_attention(4096, 1e-5),
        **_activation("relu2"),
        **_biases(attention_bias=False, mlp_bias=False),
        **_LLAMA_OTHERS,
    },
    "qwen2": {
        **_attention(32_768, 1e-6, 32),
        **_activation("silu"),
        **_QWEN_WINDOW,
        "max_window_layers": used("layers before the first window", 28),
        "use_mrope": refused("RoPE over several axes", False),
        "attention_bias": refused("the class has biases of q, k and v, and no others", True),
    },
    "qwen3": {
        **_attention(32_768, 1e-6, 32, 128),
        **_activation("silu"),
        **_biases(attention_bias=False),
        **_QWEN_WINDOW,
        "max_window_layers": used("layers before the first window", 28),
    },
    "gemma3": {
        **_attention(131_072, 1e-6, 4, 256, tied=True),
        **_activation("gelu_pytorch_tanh", "hidden_activation"),
        **_biases(attention_bias=False),
        **_GEMMA,
        **harmless("the class reads hidden_activation", "hidden_act"),
        "sliding_window_pattern": used("every so many layers see everything, where layer_types is absent", 6),
        "query_pre_attn_scalar": used("attention is scaled by one over its root", 256),
        "final_logit_softcapping": used("cap of logits; null: none"),
    },
    "gemma3n": {
        **_attention(32_768, 1e-6, 2, 256, tied=True),
        **_activation("gelu_pytorch_tanh", "hidden_activation"),
        **_biases(attention_bias=False),
        **_GEMMA,
        **harmless("the class reads hidden_activation", "hidden_act"),
        **harmless("attention of this family has no scale", "query_pre_attn_scalar"),
        "sliding_window": used("positions that layers with a window see", 512),
        "sliding_window_pattern": refused(
            "every fifth layer sees everything, where layer_types is absent", 5
        ),
        "final_logit_softcapping": used("cap of logits; null: none", 30.0),
        "vocab_size_per_layer_input": used("tokens with inputs of their own", 262_144),
        "hidden_size_per_layer_input": used("numbers in the input of a layer", 256),
        "altup_active_idx": used("the stream that layers compute", 0),
        "altup_num_inputs": used("streams", 4),
        "altup_correct_scale": refused("streams that are corrected without a scale", True),
        "num_kv_shared_layers": used("last layers that attend to earlier keys and values", 15),
        "laurel_rank": used("rank of the map beside attention", 64),
        "activation_sparsity_pattern": used("share of the gates that each layer sets to zero"),
    },
    "mixtral": {
        "num_experts": _SAME_NUMBER,
        **_attention(131_072, 1e-5, 8),
        **_activation("silu"),
        **_windows_everywhere(None),
        **_mixture(step=False, num_local_experts=8, num_experts_per_tok=2),
        "norm_topk_prob": refused("the class always divides weights by their sum", True),
    },
    "qwen2_moe": {
        **_attention(32_768, 1e-6, 16),
        **_activation("silu"),
        **_biases(qkv_bias=True),
        **_QWEN_WINDOW,
        **_mixture(
            num_experts=60,
            num_experts_per_tok=4,
            norm_topk_prob=False,
            moe_intermediate_size=1408,
            shared_expert_intermediate_size=5632,
        ),
        "max_window_layers": used("of the layers before it every second one has the window", 28),
    },
    "qwen3_moe": {
        "num_local_experts": _SAME_NUMBER,
        **_attention(32_768, 1e-6, 4),
        **_activation("silu"),
        **_biases(attention_bias=False),
        **_QWEN_WINDOW,
        **_mixture(num_experts=128, num_experts_per_tok=8, norm_topk_prob=False, moe_intermediate_size=768),
        "layer_types": used("must be the same for all layers: the class has one window for all"),
        "shared_expert_intermediate_size": refused("a shared expert, which this family has not", 0),
        **harmless("the class has one window for all layers", "max_window_layers"),
    },
    "olmoe": {
        "num_local_experts": _SAME_NUMBER,
        **_attention(4096, 1e-5),
        **_activation("silu"),
        **_biases(attention_bias=False),
        **_mixture(step=False, num_experts=64, num_experts_per_tok=8, norm_topk_prob=False),
        "clip_qkv": refused("values of q, k and v that are clipped"),
        "sliding_window": refused(
            "a window, which some implementations of attention apply and others do not"
        ),
        "layer_types": used("must be full_attention for all layers: the class has no other"),
    },
}
"""Keys of each family's own, with the defaults of its class. They come before those of `BASE`."""

WRAPPER = {
    "model_type": used("a model that also sees or hears"),
    "text_config": used("its text part, which is all that is read"),
    "tie_word_embeddings": Key("harmless", "the text part says it"),
    **harmless(
        "parts that see and hear, which are not read",
        "audio_config vision_config audio_soft_tokens_per_image vision_soft_tokens_per_image "
        "boi_token_id eoi_token_id image_token_id boa_token_id eoa_token_id audio_token_id "
        "mm_tokens_per_image boi_token_index eoi_token_index image_token_index",
    ),
}
"""Keys beside `text_config`; those of `BASE` may stand there too."""

ROPE: dict[str, dict[str, Key]] = {
    "default": {},
    "linear": {"factor": used("positions are divided by it")},
    "dynamic": harmless("frequencies change beyond the longest context only", "factor"),
    "llama3": {
        "factor": used("slow pairs are divided by it"),
        "low_freq_factor": used("fewer turns than this within the original context: divided"),
        "high_freq_factor": used("more turns than this: kept"),
        "original_max_position_embeddings": used("the original context; default max_position_embeddings"),
    },
    "yarn": {
        "factor": used("slow pairs are divided by it; null: longest context / original context"),
        "original_max_position_embeddings": used("the original context; default max_position_embeddings"),
        "attention_factor": used("queries and keys are multiplied by it; default from factor and mscale"),
        "beta_fast": used("more turns than this within the original context: kept", 32),
        "beta_slow": used("fewer turns than this: divided", 1),
        "mscale": used("with mscale_all_dim: scales the attention factor"),
        "mscale_all_dim": used("with mscale: scales the attention factor"),
        "truncate": used("whether the passage between begins and ends at whole pairs", True),
    },
}
"""Keys of `rope_scaling` and `rope_parameters` by type; longrope and others are refused by name."""

ROPE_BASE = {
    "rope_type": used("the kind of scaling", "default"),
    "type": used("the same, as transformers 4 spelled it", "default"),
    "rope_theta": used("base of RoPE"),
    "partial_rotary_factor": refused("RoPE that turns a part of each head", 1),
}
"""Those of every type."""


def keys_of(family: str) -> dict[str, Key]:
    """All keys that `config.json` may have for a family."""
    return BASE | FAMILY_KEYS[family]


def defaults_of(family: str) -> dict[str, Any]:
    """What the family's class has where a file does not say."""
    return {name: key.default for name, key in FAMILY_KEYS[family].items() if key.default is not None}
