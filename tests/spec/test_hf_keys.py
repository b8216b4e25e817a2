"""The tables of config.json against the configuration classes of transformers, and what becomes of keys."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from builders import tiny_hf
from transformers import CONFIG_MAPPING, GenerationConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, RopeParameters

from shortlist.checkpoints import open_checkpoint
from shortlist.spec.families import FAMILIES
from shortlist.spec.hf_keys import BASE, ROPE, ROPE_BASE, WRAPPER, defaults_of, keys_of


def fields(model_type: str) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(CONFIG_MAPPING[model_type])}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_key_of_the_class_has_a_place(family: str):
    """It fails when transformers adds a key: say in the table what becomes of it."""
    theirs = set(fields(FAMILIES[family].hf_model_type)) | set(
        CONFIG_MAPPING[family_type(family)].attribute_map
    )
    assert theirs <= keys_of(family).keys(), theirs - keys_of(family).keys()


def family_type(family: str) -> str:
    return FAMILIES[family].hf_model_type


@pytest.mark.parametrize("family", FAMILIES)
def test_defaults_are_those_of_the_class(family: str):
    theirs = fields(family_type(family))
    own = {"max_window_layers", "sliding_window_pattern"}  # read by a class without being its field
    for name, key in FAMILIES[family].hf_keys.items():
        if name in theirs and key.role == "used" and name not in SIZES:
            assert key.default == theirs[name], name
        elif key.default is not None:
            assert name in theirs or name in own, name
    assert not defaults_of(family).keys() & SIZES


SIZES = {
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
}
"""A file without them is damaged, so that no default may stand in for them."""


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_class_writes_is_taken(tmp_path: Path, family: str):
    tiny_hf(family, tmp_path)
    open_checkpoint(tmp_path).close()


def test_keys_of_generation_and_of_wrappers_have_a_place():
    for name in GenerationConfig._get_default_generation_params():
        assert BASE[name].role == "harmless", name
    for family in FAMILIES.values():
        if family.hf_wrapper:
            assert fields(family.hf_wrapper).keys() <= (BASE | WRAPPER).keys()


def test_every_scaling_of_transformers_is_computed_or_refused_by_name():
    assert set(ROPE) - {"default"} == set(ROPE_INIT_FUNCTIONS) - {"longrope", "proportional"}
    ours = ROPE_BASE.keys() | {name for keys in ROPE.values() for name in keys}
    assert RopeParameters.__annotations__.keys() - ours == {"short_factor", "long_factor", "mrope_section"}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    tiny_hf("llama", folder)
    return folder


def with_key(folder: Path, tmp_path: Path, **values: Any) -> Path:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).symlink_to(file)
    (copy / "config.json").unlink()
    settings = json.loads((folder / "config.json").read_text()) | values
    (copy / "config.json").write_text(json.dumps(settings))
    return copy


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("attention_temperature", 2.0, "attention_temperature is 2.0, a setting that is not known here"),
        ("num_experts", 8, "num_experts is 8, which is not supported (experts"),
        ("attention_multiplier", 0.5, "attention_multiplier is 0.5, which is not supported"),
        ("residual_multiplier", 2, "residual_multiplier is 2"),
        ("final_logit_softcapping", 30.0, "final_logit_softcapping is 30.0, which is not supported"),
        ("rope_interleaved", True, "rope_interleaved is True"),
        ("is_causal", False, "is_causal is False"),
        ("pruned_heads", {"0": [1]}, "pruned_heads is {'0': [1]}"),
        ("partial_rotary_factor", True, "partial_rotary_factor is True"),
        (
            "rope_scaling",
            {"type": "default", "short_factor": [1]},
            "rope_scaling.short_factor is [1], a setting",
        ),
        ("rope_scaling", {"type": "linear", "factor": 2, "beta_fast": 1}, "rope_scaling.beta_fast is 1"),
        (
            "rope_scaling",
            {"type": "yarn", "factor": 2, "beta_fast": 1e7},
            "beta_fast is 10000000.0, but must",
        ),
        ("rope_scaling", {"type": "yarn", "factor": 2, "truncate": 1}, "truncate is 1, but must be true or"),
        (
            "rope_scaling",
            {"type": "yarn", "factor": 2, "rope_theta": 1},
            "rope_theta is 1.0, but must be above",
        ),
        ("rope_scaling", {"rope_type": "longrope"}, "rope_scaling.rope_type is 'longrope', which is not"),
        ("rope_scaling", {"rope_type": "mrope"}, "rope_scaling.rope_type is 'mrope', which is not"),
        ("rope_parameters", {"full_attention": {}}, "rope_parameters.full_attention is {}, a setting"),
        ("layer_types", ["full_attention", "sliding_attention"], "no sliding_window is in force"),
        ("attention_bias", 1, "attention_bias is 1, but must be true or false"),
        ("tie_word_embeddings", "no", "tie_word_embeddings is 'no', but must be true or false"),
    ],
)
def test_what_is_refused_is_named(llama: Path, tmp_path: Path, refused, key: str, value: Any, words: str):
    refused(with_key(llama, tmp_path, **{key: value}), "config.json: ", words)


@pytest.mark.parametrize(
    "values",
    [
        {name: value}
        for name, key in keys_of("llama").items()
        if key.role == "refused"
        for value in (None, *key.neutral)
    ]
    + [
        {"never_heard_of": None},
        {"pad_token_id": -1},
        {"num_labels": 3},
        {"layer_types": ["full_attention"] * 2},
    ],
    ids=str,
)
def test_what_means_nothing_is_taken(llama: Path, tmp_path: Path, values: dict[str, Any]):
    open_checkpoint(with_key(llama, tmp_path, **values)).close()


@pytest.mark.parametrize(
    ("family", "values", "words"),
    [
        ("mistral", {"use_sliding_window": False}, "use_sliding_window is False"),
        ("mistral", {"layer_types": ["full_attention"] * 2}, "its window in every layer"),
        ("mistral", {"attention_bias": True}, "attention_bias is True"),
        ("qwen2", {"attention_bias": False}, "attention_bias is False"),
        ("qwen2", {"layer_types": ["sliding_attention"] * 2}, "no sliding_window is in force"),
        ("gemma3", {"sliding_window": None}, "no sliding_window is in force"),
        (
            "gemma3",
            {"rope_parameters": {"rope_type": "default"}},
            "rope_parameters.rope_type is 'default', a",
        ),
        (
            "gemma3",
            {"rope_parameters": None, "rope_scaling": {"type": "yarn", "factor": 2, "truncate": False}},
            "rope_parameters.full_attention.truncate is False",
        ),
        ("gemma3", {"original_max_position_embeddings": 64}, "state it in rope_scaling"),
        ("gemma3n", {"altup_correct_scale": False}, "altup_correct_scale is False"),
        ("mixtral", {"norm_topk_prob": False}, "norm_topk_prob is False"),
        ("mixtral", {"num_experts": 9}, "num_experts is 9, but num_local_experts is 5: they must be equal"),
        ("qwen2_moe", {"num_local_experts": 6}, "num_local_experts is 6, a setting that is not known"),
        ("olmoe", {"sliding_window": 8}, "sliding_window is 8"),
        ("qwen3_moe", {"shared_expert_intermediate_size": 8}, "shared_expert_intermediate_size is 8"),
    ],
)
def test_what_a_family_refuses(tmp_path: Path, refused, family: str, values: dict[str, Any], words: str):
    tiny_hf(family, tmp_path / "model")
    refused(with_key(tmp_path / "model", tmp_path, **values), words)


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "olmoe"])
def test_experts_are_counted_under_either_name(tmp_path: Path, family: str):
    tiny_hf(family, tmp_path)
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.config.mixture
        count = checkpoint.config.mixture.experts
    file = tmp_path / "config.json"
    settings = json.loads(file.read_text())
    for name, other in (("num_experts", "num_local_experts"), ("num_local_experts", "num_experts")):
        settings.pop(other, None)
        file.write_text(json.dumps(settings | {name: count}))
        with open_checkpoint(tmp_path) as checkpoint:
            assert checkpoint.config.mixture
            assert checkpoint.config.mixture.experts == count


def test_real_files_are_taken(llama: Path, tmp_path: Path):
    """Settings that published models state beyond those of their class."""
    stated = {
        "is_llama_config": True,
        "rope_interleaved": False,
        "transformers.js_config": {"kv_cache_dtype": {"fp16": "float16"}},
        "torch_dtype": "bfloat16",
        "_name_or_path": "somewhere",
        "_attn_implementation_autoset": True,
        "unsloth_fixed": True,
        "pretraining_tp": 4,
        "use_cache": False,
        "sliding_window": 4096,
        "use_sliding_window": False,
        "max_window_layers": 21,
        "auto_map": {"AutoModelForCausalLM": "modeling.Model"},
        "temperature": 0.7,
    }
    open_checkpoint(with_key(llama, tmp_path, **stated)).close()
