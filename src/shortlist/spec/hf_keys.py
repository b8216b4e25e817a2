"""Every key that the `config.json` of a family may have, as the family's class in transformers reads it.

The classes' own defaults stand here, because a file may leave out what equals them. A test compares all of it
with the installed classes.
"""

from typing import Any

from shortlist.spec.families import FAMILIES
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
    return BASE | FAMILIES[family].hf_keys


def defaults_of(family: str) -> dict[str, Any]:
    """What the family's class has where a file does not say."""
    return {name: key.default for name, key in FAMILIES[family].hf_keys.items() if key.default is not None}
