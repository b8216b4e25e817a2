"""Every key that a GGUF file of a supported architecture may have, as llama.cpp reads it.

Names end in `*` where all keys that begin so are meant. A test compares the tables with the names that the
`gguf` package knows.
"""

from shortlist.spec.families.base import Family
from shortlist.spec.keys import Key, harmless, refused, used

_NAMES = "names and provenance"
_ELSEWHERE = "of architectures that are not supported here"
_TOOLS = "notes of the tool that wrote the file"

GENERAL: dict[str, Key] = {
    "general.architecture": used("the family"),
    "general.alignment": used("tensors begin at multiples of it", 32),
    "general.type": refused("adapters, projectors and importance matrices are no models", "model"),
    "general.quantization_version": refused("another layout of quantized blocks", 2),
    **{
        f"general.sampling.{name}": used("a default of sampling, which a chat may use")
        for name in ("temp", "top_k", "top_p", "min_p", "penalty_repeat")
    },
    **harmless(
        "not applied, and a note says so",
        "general.sampling.sequence general.sampling.xtc_probability general.sampling.xtc_threshold "
        "general.sampling.penalty_last_n general.sampling.mirostat general.sampling.mirostat_tau "
        "general.sampling.mirostat_eta general.sampling.*",
    ),
    **harmless("the tensors have types of their own", "general.file_type"),
    **harmless(
        _NAMES,
        "general.name general.author general.version general.organization general.finetune general.basename "
        "general.description general.quantized_by general.size_label general.license general.license.* "
        "general.url general.doi general.uuid general.repo_url general.source.* general.base_model.* "
        "general.dataset.* general.datasets general.tags general.languages general.parameter_count "
        "general.date general.hash",
    ),
    "split.no": used("number of this part of a split model"),
    "split.count": used("parts of a split model"),
    "split.tensors.count": used("tensors of all parts"),
    **harmless(_TOOLS, "quantize.* imatrix.* mradermacher.*"),
    "adapter.*": refused("an adapter is no model"),
    **dict.fromkeys(("clip.*", "diffusion.*", "xielu.*"), refused(_ELSEWHERE)),
}
"""Keys that do not begin with the architecture."""

TOKENIZER: dict[str, Key] = {
    **{
        f"tokenizer.ggml.{name}": used(why)
        for name, why in {
            "model": "kind of tokenizer",
            "pre": "how text is cut before merges",
            "tokens": "the vocabulary",
            "token_type": "what each token is",
            "scores": "order of merges of SentencePiece",
            "merges": "merges of byte-level BPE",
            "bos_token_id": "the token that starts a text",
            "eos_token_id": "a token that ends a text",
            "eot_token_id": "a token that ends a turn",
            "eom_token_id": "a token that ends a message",
            "fim_pad_token_id": "a token that ends a text that fills in a middle",
            "fim_rep_token_id": "a token that ends a text that fills in a middle",
            "fim_sep_token_id": "a token that ends a text that fills in a middle",
            "unknown_token_id": "stands for what the vocabulary cannot spell",
            "seperator_token_id": "a special token that templates may name",
            "padding_token_id": "a special token that templates may name",
            "mask_token_id": "a special token that templates may name",
            "add_bos_token": "whether a text starts with the first of them",
            "add_eos_token": "whether a text ends with one",
            "add_space_prefix": "whether a space is put in front of a text",
        }.items()
    },
    "tokenizer.chat_template": used("the chat template"),
    "tokenizer.chat_template.*": used("other chat templates, by name"),
    **harmless("the other chat templates are found by their keys", "tokenizer.chat_templates"),
    **harmless(
        "special tokens are found by their types",
        "tokenizer.ggml.fim_pre_token_id tokenizer.ggml.fim_suf_token_id tokenizer.ggml.fim_mid_token_id "
        "tokenizer.ggml.prefix_token_id tokenizer.ggml.suffix_token_id tokenizer.ggml.middle_token_id "
        "tokenizer.ggml.cls_token_id",
    ),
    **harmless(
        "of tokenizers of other kinds",
        "tokenizer.ggml.token_type_count tokenizer.ggml.remove_extra_whitespaces "
        "tokenizer.ggml.precompiled_charsmap tokenizer.ggml.add_sep_token tokenizer.rwkv.world",
    ),
    **harmless("a copy that llama.cpp does not read", "tokenizer.huggingface.json"),
}
"""Keys of the tokenizer."""

_OTHERS = (
    "features_length expert_chunk_feed_forward_length n_deepstack_layers decoder_start_token_id "
    "decoder_block_count swin_norm rescale_every_n_layers time_mix_extra_dim time_decay_extra_dim "
    "token_shift_count full_attention_interval swiglu_clamp_exp swiglu_clamp_shexp dense_* "
    "attention.group_norm_* attention.q_lora_rank attention.kv_lora_rank "
    "attention.decay_lora_rank attention.iclr_lora_rank attention.value_residual_mix_lora_rank "
    "attention.gate_lora_rank attention.relative_buckets_count attention.key_length_mla "
    "attention.value_length_mla attention.indexer.* ssm.* kda.* wkv.* posnet.* convnext.* "
    "shortconv.*"
)
COMMON: dict[str, Key] = {
    "context_length": used("longest context"),
    "embedding_length": used("width"),
    "block_count": used("layers"),
    "feed_forward_length": used("neurons of a feed-forward layer, or of each layer"),
    "attention.head_count": used("query heads"),
    "attention.head_count_kv": used("key and value heads; default as many as query heads"),
    "attention.key_length": used("size of a head; default width / heads"),
    "attention.value_length": used("must be the same"),
    "attention.layer_norm_rms_epsilon": used("added to the mean square inside each norm"),
    "rope.dimension_count": used("must be the size of a head"),
    "rope.freq_base": used("base of RoPE", 10_000.0),
    "rope.scaling.type": used("none, linear or yarn; longrope is refused", "linear"),
    "rope.scaling.factor": used("positions are divided by it; 0: they are not"),
    "rope.scale_linear": used("the same, as it was called before"),
    "rope.scaling.attn_factor": used("queries and keys are multiplied by it", 1.0),
    "rope.scaling.original_context_length": used("the context before scaling (yarn)"),
    "rope.scaling.yarn_beta_fast": used("more turns than this within that context: kept", 32.0),
    "rope.scaling.yarn_beta_slow": used("fewer turns than this: divided", 1.0),
    "hidden_act": used("activation, where it is not the family's own"),
    **harmless("the head has as many rows as the embedding", "vocab_size"),
    **harmless("order of rows of the converter, which llama.cpp does not read", "tensor_data_layout"),
    **harmless("whether the scaling was trained", "rope.scaling.finetuned"),
    **harmless("how llama.cpp pools hidden states", "pooling_type"),
    **harmless("the norms of the supported families are RMS norms", "attention.layer_norm_epsilon"),
    "rope.scaling.yarn_ext_factor": refused("a yarn that is mixed in by a share", 1, -1),
    "rope.scaling.yarn_attn_factor": refused("another factor of attention", 1),
    "rope.scaling.yarn_log_multiplier": refused("another factor of attention", 0),
    "rope.scaling.alpha": refused("a scaled base", 0),
    "rope.dimension_sections": refused("RoPE over several axes"),
    "rope.dimension_count_swa": refused("RoPE that differs between kinds of layers"),
    "attention.key_length_swa": refused("heads that differ between kinds of layers"),
    "attention.value_length_swa": refused("heads that differ between kinds of layers"),
    "attention.causal": refused("attention to later tokens", True),
    "attention.scale": refused("another scale of attention", 0),
    "attention.output_scale": refused("another scale of attention", 0, 1),
    "attention.clamp_kqv": refused("values of q, k and v that are clipped", 0),
    "attention.max_alibi_bias": refused("biases of positions", 0),
    "attention.temperature_length": refused("attention that depends on positions", 0),
    "attention.temperature_scale": refused("attention that depends on positions", 0),
    "attn_logit_softcapping": refused("a cap of attention scores", 0),
    "router_logit_softcapping": refused("a cap of router scores", 0),
    "use_parallel_residual": refused("feed-forward beside attention", False),
    "logit_scale": refused("another scale of logits", 0, 1),
    "embedding_scale": refused("another scale of embeddings", 0, 1),
    "residual_scale": refused("another scale of what layers add", 0, 1),
    "embedding_length_out": refused("outputs of another width"),
    "nextn_predict_layers": refused("layers that predict later tokens", 0),
    "leading_dense_block_count": refused("dense layers before mixtures", 0),
    "classifier.output_labels": refused("a classifier"),
    "expert_shared_count": refused("other shared experts", 0, 1),
    "expert_weights_scale": refused("another scale of experts", 0, 1),
    "expert_gating_func": refused("a router without softmax", 0, 1),
    "expert_group_count": refused("groups of experts", 0, 1),
    "expert_group_used_count": refused("groups of experts", 0, 1),
    "expert_group_scale": refused("groups of experts", 0, 1),
    "experts_per_group": refused("groups of experts", 0, 1),
    "moe_every_n_layers": refused("dense layers between mixtures", 0, 1),
    "interleave_moe_layer_step": refused("dense layers between mixtures", 0, 1),
    "moe_latent_size": refused("experts of another width", 0),
    **dict.fromkeys(_OTHERS.split(), refused(_ELSEWHERE)),
}
"""Keys of every architecture, without it in front."""

_WINDOW = {
    "attention.sliding_window": used("positions that layers with a window see"),
    "attention.sliding_window_pattern": used("every so many layers see everything, or a flag for each"),
    "rope.freq_base_swa": used("base of RoPE in layers with a window", 10_000.0),
}
_NO_WINDOW = harmless(
    "llama.cpp has no windows in this architecture; a note says so",
    "attention.sliding_window attention.sliding_window_pattern rope.freq_base_swa",
)
_EXPERTS = {
    "expert_count": used("experts of a layer"),
    "expert_used_count": used("experts that a token computes"),
    "expert_feed_forward_length": used("neurons of an expert; default feed_forward_length"),
}
_NO_EXPERTS = {
    "expert_count": refused("experts, which this family has not", 0),
    "expert_used_count": refused("experts, which this family has not", 0),
    "expert_feed_forward_length": refused("experts, which this family has not", 0),
    "expert_weights_norm": refused("experts, which this family has not", False),
}
_GEMMA3N = {
    "activation_sparsity_scale": used("cutoff of the gates of each layer"),
    "altup.active_idx": used("the stream that layers compute", 0),
    "altup.num_inputs": used("streams", 4),
    "embedding_length_per_layer_input": used("numbers in the input of a layer", 256),
    "attention.shared_kv_layers": used("last layers that attend to earlier keys and values"),
}


def keys_of(family: Family) -> dict[str, Key]:
    """All keys that a GGUF file of a family may have after the name of its architecture."""
    keys = COMMON | (_WINDOW if family.window_rule == "most" else _NO_WINDOW)
    keys["final_logit_softcapping"] = refused("a cap of logits", 0)
    if family.window_rule == "most":
        keys["final_logit_softcapping"] = used("cap of logits; 0: none", family.gguf_logit_cap)
    if family.streams:
        keys |= _GEMMA3N
    else:
        keys |= dict.fromkeys(_GEMMA3N, refused(_ELSEWHERE, 0))
    keys |= _EXPERTS if family.experts else _NO_EXPERTS
    if family.experts:
        keys["expert_weights_norm"] = refused("another norm of the weights", family.experts.gguf_normalize)
    shared = used("neurons of the shared expert; default feed_forward_length")
    has_shared = family.experts is not None and family.experts.shared
    keys["expert_shared_feed_forward_length"] = shared if has_shared else refused("a shared expert", 0)
    return keys | family.gguf_keys


_NAMESPACES = {name.partition(".")[0] for name in (*GENERAL, *TOKENIZER)}


def is_foreign(name: str) -> bool:
    """Whether a key that is not the architecture's belongs to no namespace of the format either."""
    return name.partition(".")[0] not in _NAMESPACES
