"""Sampling settings that files suggest, and notes for settings that are not applied."""

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
from builders import tiny_gguf, tiny_hf
from transformers import GenerationConfig

import shortlist
from shortlist.checkpoints import open_checkpoint, sampling
from shortlist.checkpoints.sampling import folder_sampling, gguf_sampling
from shortlist.engine.options import GenerationOptions


def read(folder: Path, **values: Any) -> tuple[dict[str, Any], list[str]]:
    (folder / "generation_config.json").write_text(json.dumps(values))
    return folder_sampling(folder)


def test_no_file_says_nothing(tmp_path: Path):
    assert folder_sampling(tmp_path) == ({}, [])
    assert read(tmp_path, eos_token_id=2, transformers_version="4.40") == ({}, [])


def test_the_numbers_of_a_file(tmp_path: Path):
    stated = {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.05, "repetition_penalty": 1.1}
    assert read(tmp_path, do_sample=True, **stated) == (stated, [])
    assert read(tmp_path, **stated) == (stated, [])
    GenerationOptions(**stated)


def test_sampling_without_numbers_is_that_of_transformers(tmp_path: Path):
    ours, _ = read(tmp_path, do_sample=True)
    defaults = GenerationConfig._get_default_generation_params()
    assert ours == {name: defaults[name] for name in ("temperature", "top_k")}
    assert read(tmp_path, do_sample=True, temperature=0.7, top_k=None)[0] == {"temperature": 0.7}


def test_no_sampling_is_greedy(tmp_path: Path):
    assert read(tmp_path, do_sample=False, temperature=0.6, top_p=0.9) == ({"temperature": 0.0}, [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -1),
        ("temperature", 0.001),
        ("temperature", True),
        ("temperature", "hot"),
        ("top_k", 2.5),
        ("top_k", 1 << 31),
        ("top_p", 0),
        ("top_p", 1.01),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("repetition_penalty", 0),
        ("repetition_penalty", 10**400),
    ],
)
def test_what_is_out_of_range_is_left_out_with_a_note(tmp_path: Path, name: str, value: Any):
    defaults, (note,) = read(tmp_path, **{name: value})
    assert defaults == {}
    assert note.startswith(f"generation_config.json: {name} is ")
    assert "left out" in note


def test_the_ends_of_the_ranges(tmp_path: Path):
    for stated in (
        {"temperature": 0, "top_k": 0, "top_p": 1, "min_p": 0, "repetition_penalty": 0.01},
        {"temperature": 0.01, "top_k": 1, "top_p": 1e-6, "min_p": 1, "repetition_penalty": 100},
        {"temperature": 100},
    ):
        assert read(tmp_path, **stated) == (stated, [])
        GenerationOptions(**stated)
    assert read(tmp_path, top_k=-1)[0] == {"top_k": 0}


def test_what_is_not_applied_is_noted(tmp_path: Path):
    defaults, notes = read(tmp_path, num_beams=4, no_repeat_ngram_size=3, typical_p=1.0, temperature=0.5)
    assert defaults == {"temperature": 0.5}
    assert sorted(notes) == [
        "generation_config.json asks for no_repeat_ngram_size 3, which is not applied",
        "generation_config.json asks for num_beams 4, which is not applied",
    ]


def test_what_says_nothing_is_not_noted(tmp_path: Path):
    for key, neutral in sampling.UNUSED.items():
        for value in (None, *neutral):
            assert read(tmp_path, **{key: value}) == ({}, []), (key, value)
        assert len(read(tmp_path, **{key: 7.25})[1]) == 1


def test_every_key_of_transformers_has_a_place():
    """A key that transformers adds is used, changes no text of ours, or is noted."""
    without_effect = {
        # Lengths, what is returned, caches, assisted decoding, compilation; special tokens (a tokenizer's).
        *(
            "max_length",
            "max_new_tokens",
            "num_return_sequences",
            "output_attentions",
            "output_hidden_states",
        ),
        *("output_scores", "output_logits", "return_dict_in_generate", "pad_token_id", "bos_token_id"),
        *("eos_token_id", "decoder_start_token_id", "use_cache", "cache_implementation", "cache_config"),
        *("max_cache_len", "is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule"),
        *("assistant_confidence_threshold", "prompt_lookup_num_tokens", "max_matching_ngram_size"),
        *("assistant_early_exit", "assistant_lookbehind", "target_lookbehind", "assistant_ensemble_weight"),
        *("speculation_type", "use_mtp", "compile_config", "disable_compile", "continuous_batching_config"),
        *("low_memory", "prefill_chunk_size", "early_stopping", "transformers_version", "do_sample"),
    }
    known = without_effect | set(sampling.UNUSED) | set(sampling._IN_RANGE)
    theirs = {key for key in GenerationConfig().__dict__ if not key.startswith("_")}
    assert theirs <= known, theirs - known


@pytest.mark.parametrize("content", ["[]", "{", "\x00", "[" * 100_000])
def test_a_damaged_file_is_noted(tmp_path: Path, content: str):
    (tmp_path / "generation_config.json").write_text(content)
    defaults, (note,) = folder_sampling(tmp_path)
    assert defaults == {}
    assert note.isprintable()
    assert "generation_config.json" in note


def test_keys_of_a_gguf_file():
    prefix = "general.sampling."
    stated = {"temp": 0.5, "top_k": 10, "top_p": 0.5, "min_p": 0.25, "penalty_repeat": 1.5}
    defaults, notes = gguf_sampling({prefix + key: value for key, value in stated.items()})
    expected = {"temperature": 0.5, "top_k": 10, "top_p": 0.5, "min_p": 0.25, "repetition_penalty": 1.5}
    assert (defaults, notes) == (expected, [])
    defaults, notes = gguf_sampling({prefix + "temp": -1.0, prefix + "mirostat": 2, prefix + "new": 1})
    assert defaults == {}
    assert notes == [
        "general.sampling.temp is -1.0, which is out of range: it is left out",
        "the file asks for general.sampling.mirostat 2, which is not applied",
        "the file asks for general.sampling.new 1, which is not applied",
    ]
    for key, neutral in sampling.GGUF_SAMPLING_OTHERS.items():
        for value in neutral:
            assert gguf_sampling({prefix + key: value}) == ({}, [])


def test_every_sampling_key_of_gguf_has_a_place():
    theirs = {
        value.removeprefix("general.sampling.")
        for name, value in vars(gguf.Keys.General).items()
        if name.startswith("SAMPLING_")
    }
    assert theirs == set(sampling.GGUF_SAMPLING) | set(sampling.GGUF_SAMPLING_OTHERS)


def test_a_checkpoint_and_its_model_have_them(tmp_path: Path):
    tiny_hf("llama", tmp_path / "hf")
    stated = {"do_sample": True, "temperature": 0.5, "top_k": 3, "num_beams": 2}
    (tmp_path / "hf" / "generation_config.json").write_text(json.dumps(stated))
    with open_checkpoint(tmp_path / "hf") as checkpoint:
        assert checkpoint.sampling_defaults == {"temperature": 0.5, "top_k": 3}
        assert len(checkpoint.notes) == 1
    with shortlist.load(tmp_path / "hf", head="dense", threads=1) as model:
        assert model.sampling_defaults == {"temperature": 0.5, "top_k": 3}
        assert model.notes == ("generation_config.json asks for num_beams 2, which is not applied",)
        model.generate("a", max_tokens=1, **model.sampling_defaults)
    tiny_gguf("llama", tmp_path / "m.gguf")
    with shortlist.load(tmp_path / "m.gguf", head="dense", threads=1) as model:
        assert model.sampling_defaults == {}
        assert model.notes == ()
