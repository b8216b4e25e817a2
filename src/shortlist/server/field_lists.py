"""The fields of requests that are not honoured: OpenAI's, llama-server's, vLLM's and ollama's.

`fields` explains the lists.
"""

from shortlist.server.fields import Lists, Refused

NOT_YET = "is not supported"
KEPT = "nothing about requests is kept, and the answer does not depend on it"
SPEED = "says how to be fast, which the server decides itself; the answer is the same"
ONLY_WITH = "changes nothing without {}, which is refused"
NO_LOGPROBS = "is not supported: ask for logprobs, or for echo with logprobs on /v1/completions"
NO_TEMPLATE = "is not supported: the model's own chat template is used"
NO_THINKING = "is not supported: what a model thinks is part of its answer"
NO_MEDIA = "is not supported: this model reads and writes text only"
ONE_SAMPLER = "is not supported: use temperature, top_k, top_p and min_p"
PENALTIES = "is not supported: use repetition_penalty, frequency_penalty or presence_penalty"

_ANY_OBJECT = Lists(harmless={"user": KEPT})

_OPENAI = Lists(
    harmless={
        "metadata": KEPT,
        "safety_identifier": KEPT,
        "prompt_cache_key": SPEED,
        "prompt_cache_retention": SPEED,
        "prompt_cache_options": SPEED,
        "prediction": SPEED,
    },
    refused={
        "store": Refused("is not supported: answers are not kept", (False,)),
        "service_tier": Refused("is not supported: all requests are served alike", ("auto", "default")),
    },
)

_LLAMA_SERVER = Lists(
    harmless={
        "cache_prompt": "prefixes are always looked for in the KV cache; the answer is the same",
        "id_slot": SPEED,
        "n_cache_reuse": SPEED,
        "backend_sampling": SPEED,
        "n_keep": "matters only where a context is shifted, which is never done",
        "n_discard": "matters only where a context is shifted, which is never done",
        "xtc_threshold": ONLY_WITH.format("xtc_probability"),
        "dynatemp_exponent": ONLY_WITH.format("dynatemp_range"),
        "repeat_last_n": ONLY_WITH.format("repeat_penalty"),
        "dry_base": ONLY_WITH.format("dry_multiplier"),
        "dry_allowed_length": ONLY_WITH.format("dry_multiplier"),
        "dry_penalty_last_n": ONLY_WITH.format("dry_multiplier"),
        "dry_sequence_breakers": ONLY_WITH.format("dry_multiplier"),
        "mirostat_tau": ONLY_WITH.format("mirostat"),
        "mirostat_eta": ONLY_WITH.format("mirostat"),
        "adaptive_decay": ONLY_WITH.format("adaptive_target"),
        "grammar_lazy": ONLY_WITH.format("grammar"),
        "grammar_triggers": ONLY_WITH.format("grammar"),
        "preserved_tokens": ONLY_WITH.format("grammar"),
    },
    refused={
        "repeat_penalty": Refused(
            "would count the last 64 tokens only: use repetition_penalty, which counts all", (1,)
        ),
        "typical_p": Refused(ONE_SAMPLER, (1,)),
        "top_n_sigma": Refused(ONE_SAMPLER, (-1,)),
        "xtc_probability": Refused(ONE_SAMPLER, (0,)),
        "dynatemp_range": Refused(ONE_SAMPLER, (0,)),
        "mirostat": Refused(ONE_SAMPLER, (0,)),
        "adaptive_target": Refused(ONE_SAMPLER, (-1,)),
        "min_keep": Refused(ONE_SAMPLER, (0,)),
        "samplers": Refused(
            "cannot be chosen: penalties, temperature, top_k, top_p, min_p is the order", ([],)
        ),
        "dry_multiplier": Refused(PENALTIES, (0,)),
        "n_probs": Refused("is not supported: use logprobs", (0,)),
        "post_sampling_probs": Refused("is not supported: logprobs are those of the model", (False,)),
        "n_indent": Refused(NOT_YET, (0,)),
        "n_cmpl": Refused("is not supported: use n", (1,)),
        "t_max_predict_ms": Refused("is not supported: use max_tokens", (-1, 0)),
        "grammar": Refused("is not supported: use response_format with json_schema or regex", ("",)),
        "lora": Refused("is not supported: no adapters are loaded", ([],)),
        "return_tokens": Refused("is not supported: send the text to /tokenize", (False,)),
        "return_progress": Refused(NOT_YET, (False,)),
        "timings_per_token": Refused("is not supported: usage.shortlist has the timings", (False,)),
        "response_fields": Refused("is not supported: all fields are sent", ([],)),
        "verbose": Refused(NOT_YET, (False,)),
        "sse_ping_interval": Refused(NOT_YET, (-1,)),
        "image_data": Refused(NO_MEDIA, ([],)),
        "reasoning_format": Refused(NO_THINKING, ("none",)),
        "reasoning_budget_tokens": Refused(NO_THINKING, (-1,)),
    },
)

_VLLM = Lists(
    harmless={
        "spaces_between_special_tokens": ONLY_WITH.format("skip_special_tokens"),
        "truncation_side": ONLY_WITH.format("truncate_prompt_tokens"),
        "session_id": SPEED,
        "guided_decoding_backend": "there is one backend, and what it allows is the same",
        "routed_experts_prompt_start": "routed experts are not returned",
        "return_mm_kwargs": "is for endpoints that are not here",
    },
    refused={
        "use_beam_search": Refused("is not supported: use n, and compare the logprobs", (False,)),
        "length_penalty": Refused("is not supported: there is no beam search", (1,)),
        "early_stopping": Refused("is not supported: there is no beam search", (False,)),
        "watermarking": Refused(NOT_YET, (False,)),
        "stop_token_ids": Refused("is not supported: use stop with the texts of these tokens", ([],)),
        "include_stop_str_in_output": Refused("is not supported: stop strings are left out", (False,)),
        "ignore_eos": Refused("is not supported: a text ends where the model ends it", (False,)),
        "min_tokens": Refused("is not supported: a text ends where the model ends it", (0,)),
        "skip_special_tokens": Refused("is not supported: special tokens are left out of answers", (True,)),
        "truncate_prompt_tokens": Refused("is not supported: shorten the prompt"),
        "prompt_logprobs": Refused("is not supported: use echo with logprobs on /v1/completions"),
        "logprob_token_ids": Refused(NO_LOGPROBS, ([],)),
        "allowed_token_ids": Refused("is not supported: use logit_bias or response_format"),
        "bad_words": Refused("is not supported: use logit_bias", ([],)),
        "guided_grammar": Refused("is not supported: use guided_json, guided_regex or guided_choice", ("",)),
        "guided_whitespace_pattern": Refused("is not supported: JSON is written without white space"),
        "priority": Refused("is not supported: requests are served as they come", (0,)),
        "request_id": Refused("is not supported: send the header X-Request-Id"),
        "return_tokens_as_token_ids": Refused("is not supported: tokens are spelled", (False,)),
        "return_token_ids": Refused("is not supported: send the text to /tokenize", (False,)),
        "return_token_offsets": Refused(NOT_YET, (False,)),
        "return_prompt_text": Refused("is not supported: use /tokenize and /detokenize", (False,)),
        "cache_salt": Refused("is not supported: clients of one server share its cache of prefixes"),
        "kv_transfer_params": Refused(NOT_YET, ({},)),
        "ec_transfer_params": Refused(NOT_YET, ({},)),
        "vllm_xargs": Refused(NOT_YET, ({},)),
        "repetition_detection": Refused(PENALTIES),
        "thinking_token_budget": Refused(NO_THINKING, (-1,)),
        "stream_interval": Refused("is not supported: every token is sent at once", (1,)),
        "prompt_embeds": Refused("is not supported: send text or tokens", ([],)),
    },
)

_OLLAMA = Lists(
    harmless={"keep_alive": "the model stays loaded as long as the server runs"},
    refused={
        "options": Refused(
            "is not supported: send its fields beside the messages, with OpenAI's names", ({},)
        ),
        "format": Refused("is not supported: use response_format", ("",)),
        "think": Refused(NO_THINKING),
        "reasoning": Refused("is not supported: use reasoning_effort", ({},)),
        "num_predict": Refused("is not supported: use max_tokens"),
        "num_ctx": Refused("cannot be set by a request: the context is that of the server"),
        "raw": Refused(NOT_YET, (False,)),
        "images": Refused(NO_MEDIA, ([],)),
        "_debug_render_only": Refused("is not supported: use /tokenize and /detokenize", (False,)),
    },
)

_GENERATION = _ANY_OBJECT | _OPENAI | _LLAMA_SERVER | _VLLM | _OLLAMA

CHAT = _GENERATION | Lists(
    refused={
        "prompt": Refused("is for /v1/completions: use messages"),
        "suffix": Refused("is for /v1/completions", ("",)),
        "parse_special": Refused("is for /v1/completions: in messages special tokens are text", (False,)),
        "functions": Refused("is not supported: use tools", ([],)),
        "function_call": Refused("is not supported: use tool_choice", ("none", "auto")),
        "modalities": Refused(NO_MEDIA, (["text"], [])),
        "audio": Refused(NO_MEDIA),
        "web_search_options": Refused("is not supported: this model has no access to the web"),
        "moderation": Refused(NOT_YET),
        "verbosity": Refused("is not supported: say it in a message", ("medium",)),
        "chat_template": Refused(NO_TEMPLATE),
        "media_io_kwargs": Refused(NO_MEDIA, ({},)),
        "mm_processor_kwargs": Refused(NO_MEDIA, ({},)),
        "add_special_tokens": Refused("is not supported: the chat template writes them", (False,)),
        "echo": Refused("is not supported in chats", (False,)),
        "include_reasoning": Refused(NO_THINKING, (True,)),
        "chat_format": Refused(NO_TEMPLATE),
        "chat_parser": Refused(NO_TEMPLATE),
        "generation_prompt": Refused("is not supported: use continue_final_message", ("",)),
        "parse_tool_calls": Refused("is not supported: send no tools", (True,)),
        "reasoning_control": Refused(NO_THINKING, (False,)),
        "reasoning_budget_start_tag": Refused(NO_THINKING),
        "reasoning_budget_end_tag": Refused(NO_THINKING),
        "reasoning_budget_end_tags": Refused(NO_THINKING),
        "reasoning_budget_message": Refused(NO_THINKING),
    },
)

_FOR_CHATS = "is for /v1/chat/completions"

COMPLETION = _GENERATION | Lists(
    refused={
        "suffix": Refused(
            "is not supported: spell the fill-in-the-middle tokens of the model in the prompt", ("",)
        ),
        "messages": Refused(f"{_FOR_CHATS}: use prompt"),
        "tools": Refused(_FOR_CHATS, ([],)),
        "tool_choice": Refused(_FOR_CHATS, ("none", "auto")),
        "parallel_tool_calls": Refused(_FOR_CHATS, (True, False)),
        "top_logprobs": Refused(f"{_FOR_CHATS}: use logprobs, a number", (0,)),
        "documents": Refused(_FOR_CHATS, ([],)),
        "chat_template": Refused(_FOR_CHATS),
        "chat_template_kwargs": Refused(_FOR_CHATS, ({},)),
        "add_generation_prompt": Refused(_FOR_CHATS, (True, False)),
        "continue_final_message": Refused(_FOR_CHATS, (False,)),
        "reasoning_effort": Refused(_FOR_CHATS, ("none",)),
        "include_reasoning": Refused(NO_THINKING, (True,)),
    },
)

EMBEDDING = _ANY_OBJECT | Lists(
    harmless={"keep_alive": _OLLAMA.harmless["keep_alive"], "priority": SPEED},
    refused={
        "truncate_prompt_tokens": Refused("is not supported: shorten the input"),
        "truncate": Refused("is not supported: shorten the input", (False,)),
        "add_special_tokens": Refused(NOT_YET, (True,)),
        "normalize": Refused("is not supported: vectors have length 1", (True,)),
        "embd_normalize": Refused("is not supported: vectors have length 1", (2,)),
        "messages": Refused("is not supported: send input"),
        "content": Refused("is not supported: use input"),
        "options": Refused(NOT_YET, ({},)),
    },
)

TOKENIZE = Lists(
    harmless={},
    refused={
        "with_pieces": Refused("is not supported: send the tokens to /detokenize", (False,)),
        "return_token_strs": Refused("is not supported: send the tokens to /detokenize", (False,)),
        "chat_template": Refused(NO_TEMPLATE),
        "mm_processor_kwargs": Refused(NO_MEDIA, ({},)),
        "media_io_kwargs": Refused(NO_MEDIA, ({},)),
    },
)

DETOKENIZE = Lists()

STREAM_OPTIONS = Lists(
    refused={
        "include_obfuscation": Refused("is not supported: events are not padded", (False,)),
        "continuous_usage_stats": Refused("is not supported: use include_usage", (False,)),
    },
)

RESPONSE_FORMAT = Lists(
    refused={
        "grammar": Refused("is not supported: use json_schema or regex"),
        "structures": Refused("is not supported: use json_schema or regex"),
        "triggers": Refused("is not supported: use json_schema or regex"),
        "format": Refused("is not supported: use json_schema or regex"),
    },
)

JSON_SCHEMA = Lists(
    harmless={
        "description": "the answer is JSON of the schema, whatever it is for",
        "strict": "the answer is always JSON of the schema",
    },
)

STRUCTURED_OUTPUTS = Lists(
    harmless={
        "disable_any_whitespace": "JSON is always written without white space",
        "disable_fallback": "there is one backend",
        "backend": "there is one backend, and what it allows is the same",
    },
    refused={
        "grammar": Refused("is not supported: use json, regex or choice"),
        "structural_tag": Refused("is not supported: use json, regex or choice"),
        "whitespace_pattern": Refused("is not supported: JSON is written without white space"),
        "disable_additional_properties": Refused("is not supported: say it in the schema", (False,)),
    },
)

TOOL = Lists(
    harmless={"defer_loading": "all tools are shown to the model"},
    refused={"custom": Refused("is not supported: use a function")},
)

FUNCTION = Lists(
    harmless={
        "strict": "a call that is asked for always matches the parameters",
        "defer_loading": "all tools are shown to the model",
    },
)

TOOL_CHOICE = Lists(
    refused={
        "allowed_tools": Refused("is not supported: send these tools only"),
        "custom": Refused("is not supported: use a function"),
    },
)

MESSAGE = Lists(
    harmless={
        "annotations": "links of an earlier answer, whose text is in content",
        "cache_control": SPEED,
        "prompt_cache_breakpoint": SPEED,
    },
    refused={
        "audio": Refused(NO_MEDIA),
        "images": Refused(NO_MEDIA, ([],)),
        "function_call": Refused("is not supported: use tool_calls"),
        "prefix": Refused("is not supported: use continue_final_message", (False,)),
    },
)

PART = Lists(
    harmless={
        "prompt_cache_breakpoint": SPEED,
        "cache_control": SPEED,
        "annotations": MESSAGE.harmless["annotations"],
    },
)

TOOL_CALL = Lists(
    harmless={"index": "calls are in the order in which they stand"},
    refused={"custom": Refused("is not supported: use a function")},
)

CALLED = Lists()
