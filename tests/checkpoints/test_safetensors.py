"""Hugging Face folders: bytes equal to what the `safetensors` library reads, and damaged folders refused."""

import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import tiny_hf
from hypothesis import given, settings
from hypothesis import strategies as st

from shortlist.checkpoints import open_checkpoint
from shortlist.checkpoints.base import needed_tensors
from shortlist.checkpoints.mapped import MappedFile
from shortlist.checkpoints.safetensors import _read_file
from shortlist.errors import CheckpointError
from shortlist.spec.families import FAMILIES

INDEX = "model.safetensors.index.json"
SPARE_BYTES = 1 << 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    tiny_hf("llama", folder)
    return folder


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    tiny_hf("llama", folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[Path], Path]:
    return lambda folder: Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_opens_with_the_tensors_that_it_needs(tmp_path: Path, family: str):
    model = tiny_hf(family, tmp_path)
    with open_checkpoint(tmp_path) as checkpoint:
        config = checkpoint.config
        assert config.family == family
        assert checkpoint.tensors.keys() == set(needed_tensors(config))
        if config.mixture is None:  # whose experts are taken apart
            names = {tensor.name for tensor in checkpoint.tensors.values()}
            assert len(names) == len(list(model.parameters()))
        assert checkpoint.tokenizer_source == tmp_path


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_bytes_are_those_that_the_library_reads(tmp_path: Path, dtype: str):
    import torch
    from safetensors import safe_open

    tiny_hf("qwen3", tmp_path, dtype=dtype)
    with (
        open_checkpoint(tmp_path) as checkpoint,
        safe_open(tmp_path / "model.safetensors", framework="pt") as theirs,
    ):
        assert {tensor.name for tensor in checkpoint.tensors.values()} == set(theirs.keys())
        for tensor in checkpoint.tensors.values():
            their = theirs.get_tensor(tensor.name)
            assert tensor.shape == tuple(their.shape)
            assert tensor.type == {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[dtype]
            np.testing.assert_array_equal(tensor.data, their.flatten().view(torch.uint8).numpy())


def test_shards_hold_the_same_as_one_file(whole: Path, sharded: Path):
    with open_checkpoint(whole) as one, open_checkpoint(sharded) as many:
        assert one.config == many.config
        assert one.tensors.keys() == many.tensors.keys()
        for name, tensor in one.tensors.items():
            np.testing.assert_array_equal(tensor.data, many.tensors[name].data)


def test_a_tied_head_that_was_saved_too_is_left_alone(tmp_path: Path):
    from safetensors.torch import load_file, save_file

    tiny_hf("gemma3", tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, path)
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.config.tied_head
        assert "head" not in checkpoint.tensors


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def edit_header(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    change(header)
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + content[end:])


NORM = "model.norm.weight"
WRONG_HEADERS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "type": (
        lambda h: h[NORM].update(dtype="F8_E4M3"),
        "'F8_E4M3', which is not supported; supported are F32",
    ),
    "shape": (lambda h: h[NORM].update(shape=[63]), "needs 252 bytes"),
    "empty shape": (lambda h: h[NORM].update(shape=[]), "shape []"),
    "shape of words": (lambda h: h[NORM].update(shape=["64"]), "shape ['64']"),
    "absurd shape": (lambda h: h[NORM].update(shape=[1 << 60, 1 << 60]), "shape [1152921504606846976"),
    "offsets": (
        lambda h: h[NORM].update(data_offsets=[0, 1 << 40]),
        "needs 256 bytes, but is given bytes 0 to",
    ),
    "negative offsets": (lambda h: h[NORM].update(data_offsets=[-256, 0]), "needs 256 bytes"),
    "no offsets": (lambda h: h[NORM].pop("data_offsets"), "is not described as safetensors prescribes"),
    "no object": (lambda h: h.update({NORM: 1}), "is not described as safetensors prescribes"),
    "missing tensor": (
        lambda h: h.pop(NORM),
        "lacks 1 of the tensors of a llama model, the first is model.norm.weight",
    ),
    "foreign tensor": (lambda h: h.update({"a\nb": h[NORM]}), r"'a\nb' is not one of a llama model"),
    "layer too many": (
        lambda h: h.update({"model.layers.2.input_layernorm.weight": h[NORM]}),
        "beyond the 2 layers",
    ),
    "transposed": (
        lambda h: h["model.layers.0.mlp.up_proj.weight"].update(shape=[64, 96]),
        "has shape (64, 96), but the header says (96, 64)",
    ),
}


@pytest.mark.parametrize("case", WRONG_HEADERS)
def test_a_wrong_header_is_refused(whole: Path, copy, refused, case: str):
    change, word = WRONG_HEADERS[case]
    folder = copy(whole)
    edit_header(folder / "model.safetensors", change)
    refused(folder, str(folder), word)


WRONG_FILES: dict[str, tuple[str, bytes, str]] = {
    "empty weights": ("model.safetensors", b"", "is empty"),
    "short weights": ("model.safetensors", b"1234", "too short"),
    "endless header": ("model.safetensors", b"\xff" * 64, "ends in the middle of its header"),
    "header that is no JSON": ("model.safetensors", (4).to_bytes(8, "little") + b"abcd", "valid JSON object"),
    "empty configuration": ("config.json", b"", "is empty"),
    "configuration that is no JSON": ("config.json", b"{", "valid JSON object"),
    "configuration that is a list": ("config.json", b"[]", "valid JSON object"),
    "configuration of many levels": ("config.json", b"[" * 100_000, "valid JSON object"),
    "configuration that is not UTF-8": ("config.json", b'{"a": "\xff"}', "valid JSON object"),
    "huge configuration": ("config.json", b" " * (1 << 25), "more than any model needs"),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_a_damaged_file_is_refused(whole: Path, copy, refused, case: str):
    name, content, word = WRONG_FILES[case]
    folder = copy(whole)
    (folder / name).write_bytes(content)
    refused(folder, str(folder / name), word)


def test_an_index_that_names_a_missing_file(sharded: Path, copy, refused):
    folder = copy(sharded)
    gone = sorted(folder.glob("*.safetensors"))[1]
    gone.unlink()
    refused(folder, INDEX, f"names {gone.name}, which is not in the folder (1 of")


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "a\nb.safetensors", 3, ""])
def test_an_index_that_points_elsewhere(sharded: Path, copy, refused, name: object):
    folder = copy(sharded)
    edit_json(folder / INDEX, lambda index: index["weight_map"].update({NORM: name}))
    refused(folder, INDEX, "must give file names of the folder")


def test_an_index_without_a_map(sharded: Path, copy, refused):
    folder = copy(sharded)
    edit_json(folder / INDEX, lambda index: index.pop("weight_map"))
    refused(folder, INDEX, "weight_map is missing")


def test_a_tensor_in_two_shards(sharded: Path, copy, refused):
    folder = copy(sharded)
    first, second, *_ = sorted(folder.glob("*.safetensors"))
    shutil.copy(first, second)
    refused(folder, "is there twice")


def test_a_folder_without_a_model(tmp_path: Path, refused):
    refused(tmp_path, str(tmp_path), "holds no model")


def test_pickled_weights_are_never_read(whole: Path, copy, refused):
    folder = copy(whole)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(folder, "neither model.safetensors nor", "can run code")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(whole: Path, copy, refused, share: float):
    folder = copy(whole)
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused(folder, "model.safetensors", "fetch")


HEADER = json.dumps(
    {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "__metadata__": {"format": "pt"}}
).encode()
FILE = len(HEADER).to_bytes(8, "little") + HEADER + bytes(24)


@settings(max_examples=300, deadline=2000)
@given(st.lists(st.tuples(st.integers(0, len(FILE) - 25), st.integers(0, 255)), min_size=1, max_size=4))
def test_changed_headers(tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, int]]):
    content = bytearray(FILE)
    for position, byte in edits:
        content[position] = byte
    path = tmp_path_factory.mktemp("fuzz") / "model.safetensors"
    path.write_bytes(content)
    refusal = ""
    tracemalloc.start()
    try:
        for tensor in _read_file(MappedFile(path))[1]:
            tensor.data.sum()
    except CheckpointError as error:
        refusal = str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert len(refusal.splitlines()) <= 1
    assert peak <= len(content) + SPARE_BYTES
