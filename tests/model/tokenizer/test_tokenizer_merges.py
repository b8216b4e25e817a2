"""Folders with a vocabulary and merges alone, against `transformers`."""

import json
from pathlib import Path
from typing import Any

import pytest
from builders import byte_level_vocabulary

from shortlist.errors import CheckpointError
from shortlist.model.tokenizer.folder import read_folder
from shortlist.model.tokenizer.tokenizer import Tokenizer

TEXTS = ["the them", " the  the\n\n12345 don't", "café cafe\u0301 日本", "<|im_end|>the<|endoftext|>", ""]


def folder_with(tmp_path: Path, **config: Any) -> Path:
    vocabulary = {token: i for i, token in enumerate(byte_level_vocabulary(320))}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nt h\nth e\nĠ the\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.parametrize(
    "name", ["GPT2Tokenizer", "GPT2TokenizerFast", "Qwen2Tokenizer", "Qwen2TokenizerFast"]
)
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"bos_token": "<|im_start|>", "add_bos_token": True},
        {"eos_token": "<|im_end|>", "add_eos_token": True},
        {"eos_token": "<|im_end|>", "add_bos_token": True, "bos_token": "<|im_end|>", "add_eos_token": True},
    ],
    ids=["plain", "bos", "eos", "both"],
)
def test_tokens_are_those_of_transformers(tmp_path: Path, name: str, config: dict[str, Any]):
    from transformers import AutoTokenizer

    folder = folder_with(tmp_path, tokenizer_class=name, **config)
    theirs = AutoTokenizer.from_pretrained(folder)
    ours = Tokenizer(read_folder(folder), "MODEL")
    for text in TEXTS:
        assert ours.encode(text, parse_special=True) == theirs(text)["input_ids"], text
        tokens = theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text, add_special=False, parse_special=True) == tokens
        assert ours.decode(tokens) == theirs.decode(tokens, skip_special_tokens=True)
    assert ours.bos_id == theirs.bos_token_id
    assert theirs.eos_token_id in ours.eos_ids


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "qwen2_moe", "qwen3_moe"])
def test_the_class_of_a_model_that_names_none(tmp_path: Path, kind: str):
    folder = folder_with(tmp_path)
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    parts = read_folder(folder)
    assert parts.bos_id is None
    assert parts.names["eos_token"] == "<|endoftext|>"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "tokenizer_class None are not known here: write tokenizer.json"),
        ({"tokenizer_class": "RobertaTokenizer"}, "tokenizer_class 'RobertaTokenizer' are not known"),
        ({"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True}, "add_prefix_space is not supported"),
        (
            {"tokenizer_class": "Qwen2Tokenizer", "add_bos_token": True},
            "puts bos_token around texts, which is .None. and not in vocab.json",
        ),
    ],
)
def test_what_is_not_known_is_named(tmp_path: Path, config: dict[str, Any], message: str):
    with pytest.raises(CheckpointError, match=message):
        read_folder(folder_with(tmp_path, **config))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("merges.txt", "t h\nthe", "line 'the', which is no pair"),
        ("merges.txt", "t q", "line 't q', which is no pair"),
        ("merges.txt", "zz q", "line 'zz q', which is no pair"),
        ("vocab.json", "{}", "does not number its 0 tokens"),
        ("vocab.json", '{"a": 1}', "does not number its 1 tokens"),
        ("vocab.json", '{"a": 0, "b": 0}', "does not number its 2 tokens"),
        ("vocab.json", '{"a": 0, "b": "1"}', "does not number its 2 tokens"),
        ("vocab.json", "[]", "valid JSON object"),
        ("vocab.json", "version https://git-lfs.github.com/spec/v1\noid 1", "pointer of git-lfs"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, file: str, content: str, message: str):
    folder = folder_with(tmp_path, tokenizer_class="GPT2Tokenizer")
    (folder / file).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        read_folder(folder)


def test_lines_may_end_as_on_windows(tmp_path: Path):
    folder = folder_with(tmp_path, tokenizer_class="GPT2Tokenizer")
    (folder / "merges.txt").write_bytes(b"#version: 0.2\r\nt h\r\nth e\r\n\r\n")
    assert Tokenizer(read_folder(folder), "MODEL").encode("the", add_special=False) == [260]
