"""Configuration from config.json, in the spelling of transformers 4 and 5, and settings that are refused."""

from pathlib import Path
from typing import Any

import pytest

from shortlist.errors import CheckpointError
from shortlist.spec import rope
from shortlist.spec.config import ModelConfig
from shortlist.spec.hf_config import hf_config, hf_family
from shortlist.spec.settings import Settings

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 128,
}
QWEN = {**LLAMA, "model_type": "qwen2", "sliding_window": 16, "max_window_layers": 3}
GEMMA = {
    **LLAMA,
    "model_type": "gemma3_text",
    "head_dim": 32,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 24,
    "sliding_window": 16,
    "num_hidden_layers": 7,
}


def read(values: dict[str, Any]) -> ModelConfig:
    settings = Settings(Path("config.json"), values)
    return hf_config(settings, hf_family(settings))


def test_what_a_llama_leaves_unsaid():
    config = read({k: v for k, v in LLAMA.items() if k != "num_key_value_heads"})
    assert config.kv_heads == config.heads
    assert config.head_dim == 16
    assert not config.tied_head
    assert config.windows == (0,) * 4
    assert config.rope_frequencies == (rope.plain(10_000.0, 16),) * 4
    assert (config.norm_offset, config.embedding_scale, config.attention_scale) == (0.0, 1.0, 0.25)
    assert not config.rope_interleaved


def test_what_gemma3_leaves_unsaid():
    config = read(GEMMA)
    assert config.tied_head
    assert config.windows == (16, 16, 16, 16, 16, 0, 16)
    assert config.rope_frequencies[4:6] == (rope.plain(10_000.0, 32), rope.plain(1_000_000.0, 32))
    assert (config.norm_offset, config.embedding_scale) == (1.0, 8.0)
    assert config.attention_scale == 24**-0.5
    assert config.activation == "gelu_tanh"


def test_layer_types_come_before_rules():
    types = ["full_attention", "sliding_attention"] * 2
    assert read({**QWEN, "use_sliding_window": True, "layer_types": types}).windows == (0, 16, 0, 16)


def test_qwen_counts_the_layers_before_the_first_window():
    assert read({**QWEN, "use_sliding_window": True}).windows == (0, 0, 0, 16)
    assert read({**QWEN, "use_sliding_window": False}).windows == (0, 0, 0, 0)


def test_mistral_has_its_window_everywhere_or_nowhere():
    mistral = {**LLAMA, "model_type": "mistral"}
    assert read({**mistral, "sliding_window": 16}).windows == (16,) * 4
    assert read({**mistral, "sliding_window": None}).windows == (0,) * 4


LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@pytest.mark.parametrize(
    "spelling",
    [
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
        {"rope_parameters": {"rope_theta": 5e5, "rope_type": "llama3", **LLAMA3}},
    ],
    ids=["transformers 4", "transformers 5"],
)
def test_llama3_scaling(spelling: dict[str, Any]):
    expected = rope.llama3(rope.plain(5e5, 16), 8.0, 1.0, 4.0, 64)
    assert read({**LLAMA, **spelling}).rope_frequencies == (expected,) * 4


@pytest.mark.parametrize(
    "spelling",
    [
        {
            "rope_theta": 2e6,
            "rope_local_base_freq": 2e4,
            "rope_scaling": {"type": "linear", "factor": 8.0},
        },
        {
            "rope_parameters": {
                "full_attention": {"rope_theta": 2e6, "rope_type": "linear", "factor": 8.0},
                "sliding_attention": {"rope_theta": 2e4, "rope_type": "default"},
            }
        },
    ],
    ids=["transformers 4", "transformers 5"],
)
def test_gemma3_scales_only_global_layers(spelling: dict[str, Any]):
    frequencies = read({**GEMMA, **spelling}).rope_frequencies
    assert frequencies[0] == rope.plain(2e4, 32)
    assert frequencies[5] == rope.linear(rope.plain(2e6, 32), 8.0)


WRONG = {
    "no model type": ({"model_type": None}, "model_type is missing"),
    "unknown model type": (
        {"model_type": "mamba"},
        "'mamba', which is not supported; supported are llama, mi",
    ),
    "model type that is no word": ({"model_type": ["llama"]}, "['llama'], which is not supported"),
    "missing": ({"hidden_size": None}, "hidden_size is missing"),
    "width of true": ({"hidden_size": True}, "hidden_size is True"),
    "absurd width": ({"hidden_size": 10**30}, "from 1 to 1048576"),
    "absurd number of layers": ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
    "heads that cannot be shared": ({"num_key_value_heads": 3}, "does not divide the 4 heads"),
    "odd heads": ({"head_dim": 15}, "must be even"),
    "epsilon of 0": ({"rms_norm_eps": 0}, "rms_norm_eps is 0"),
    "epsilon beyond floats": ({"rms_norm_eps": 10**400}, "must be a positive number"),
    "other activation": ({"hidden_act": "gelu"}, "'gelu', which is not supported; supported are silu, relu"),
    "quantized": (
        {"quantization_config": {"quant_method": "gptq"}},
        "quantization_config is {'quant_method': 'gptq'}, which is not supported",
    ),
    "capped attention": (
        {"attn_logit_softcapping": 30.0},
        "attn_logit_softcapping is 30.0, which is not supported",
    ),
    "a cap of 0": ({"final_logit_softcapping": 0.0}, "final_logit_softcapping is 0.0"),
    "too few FFN widths": (
        {"intermediate_size": [96, 96]},
        "must be one whole number from 1 to 16777216, or 4",
    ),
    "an FFN without neurons": ({"intermediate_size": [96, 96, 0, 96]}, "intermediate_size must be"),
    "longrope": ({"rope_scaling": {"rope_type": "longrope"}}, "'longrope', which is not supported"),
    "scaling that is no object": ({"rope_scaling": "linear"}, "must be an object"),
    "scaling without a factor": ({"rope_scaling": {"type": "linear"}}, "rope_scaling.factor is missing"),
    "llama3 upside down": (
        {"rope_scaling": {"rope_type": "llama3", **LLAMA3, "low_freq_factor": 4.0}},
        "must be below high_freq_factor",
    ),
    "partial rotation": (
        {"partial_rotary_factor": 0.5},
        "partial_rotary_factor is 0.5, which is not supported",
    ),
    "unknown layer type": ({"layer_types": ["linear_attention"] * 4}, "layer_types must name"),
    "too few layer types": ({"layer_types": ["full_attention"]}, "for each of 4 layers"),
    "layer types that are no words": ({"layer_types": [["full_attention"]] * 4}, "layer_types must name"),
    "windows without a size": ({"layer_types": ["sliding_attention"] * 4}, "no sliding_window is in force"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_one_line(case: str):
    changes, word = WRONG[case]
    with pytest.raises(CheckpointError) as caught:
        read({**LLAMA, **changes})
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith("config.json: ")
    assert word in message


def test_logits_are_capped_where_the_model_says_so():
    assert read(LLAMA).logit_cap is None
    assert read({**GEMMA, "final_logit_softcapping": None}).logit_cap is None
    assert read({**GEMMA, "final_logit_softcapping": 30}).logit_cap == 30.0


def test_ffn_widths_may_differ_from_layer_to_layer():
    assert (read(LLAMA).ffn_width, read(LLAMA).ffn_widths) == (96, ())
    assert read({**LLAMA, "intermediate_size": [96] * 4}) == read(LLAMA)
    config = read({**LLAMA, "intermediate_size": [96, 32, 64, 64]})
    assert (config.ffn_width, config.ffn_width_of(1)) == (96, 32)
