"""The model file of a folder, and misleading folders."""

import json
from pathlib import Path
from typing import Any

import pytest
from builders import tiny_hf
from raw_gguf import small_llama

from shortlist.checkpoints import open_checkpoint

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n"


@pytest.fixture
def gguf_bytes() -> bytes:
    return small_llama()


def test_a_folder_with_one_gguf_file(tmp_path: Path, gguf_bytes: bytes):
    (tmp_path / "README.md").write_text("a model")
    (tmp_path / "m.gguf").write_bytes(gguf_bytes)
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.path == tmp_path / "m.gguf"
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')  # as some repositories add
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.path == tmp_path / "m.gguf"


def test_several_gguf_files_are_named(tmp_path: Path, refused, gguf_bytes: bytes):
    for name in ("b.gguf", "a.gguf", "c-00001-of-00002.gguf", "c-00002-of-00002.gguf"):
        (tmp_path / name).write_bytes(gguf_bytes)
    refused(tmp_path, "holds 3 GGUF files: name one of them (a.gguf, b.gguf, c-00001-of-00002.gguf)")


def test_a_hugging_face_model_comes_before_a_gguf_file(tmp_path: Path, gguf_bytes: bytes):
    tiny_hf("llama", tmp_path)
    (tmp_path / "m.gguf").write_bytes(gguf_bytes)
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.path == tmp_path


def test_a_folder_without_a_model(tmp_path: Path, refused):
    (tmp_path / "notes.txt").write_text("nothing here")
    refused(
        tmp_path, f"{tmp_path} holds no model, neither config.json with safetensors files nor a GGUF file"
    )


def test_weights_without_a_configuration(tmp_path: Path, refused):
    tiny_hf("llama", tmp_path)
    (tmp_path / "config.json").unlink()
    refused(tmp_path, "config.json cannot be read")


def test_an_adapter_is_named_as_one(tmp_path: Path, refused):
    (tmp_path / "adapter_config.json").write_text("{}")
    refused(tmp_path, "holds an adapter (adapter_config.json)", "merge")
    tiny_hf("llama", tmp_path)
    refused(tmp_path, "holds an adapter (adapter_config.json)")


def test_a_tensor_of_an_adapter_is_named_as_one(tmp_path: Path, refused):
    from safetensors.numpy import load_file, save_file

    tiny_hf("llama", tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    some = next(iter(tensors.values()))
    save_file(tensors | {"model.layers.0.self_attn.q_proj.lora_A.weight": some}, file)
    refused(tmp_path, "lora_A.weight' is of an adapter, which is not supported: merge it into its model")
    save_file(tensors | {"model.layers.0.self_attn.q_proj.extra": some}, file)
    refused(tmp_path, "q_proj.extra' is not one of a llama model that is supported")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "pytorch_model.bin"])
def test_a_file_of_a_folder_names_the_folder(tmp_path: Path, refused, name: str):
    (tmp_path / name).write_text("anything")
    refused(
        tmp_path / name, f"{tmp_path / name} is a part of a Hugging Face folder: name the folder, {tmp_path}"
    )


@pytest.mark.parametrize("name", ["m.gguf", "config.json", "model.safetensors"])
def test_pointers_of_git_lfs(tmp_path: Path, refused, name: str):
    if name != "m.gguf":
        tiny_hf("llama", tmp_path)
    (tmp_path / name).write_text(POINTER)
    target = tmp_path if name != "m.gguf" else tmp_path / name
    refused(target, f"{tmp_path / name} is a pointer of git-lfs, not the file itself: run `git lfs pull`")


class TestNumberedFiles:
    @pytest.fixture
    def shards(self, tmp_path: Path) -> Path:
        tiny_hf("llama", tmp_path, max_shard_size="60KB")
        (tmp_path / "model.safetensors.index.json").unlink()
        return tmp_path

    def test_without_an_index(self, shards: Path, tmp_path: Path):
        assert len(list(shards.glob("model-*.safetensors"))) > 2
        open_checkpoint(shards).close()

    def test_one_of_one(self, tmp_path: Path):
        tiny_hf("llama", tmp_path)
        (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00001.safetensors")
        open_checkpoint(tmp_path).close()

    def test_a_missing_one_is_named(self, shards: Path, refused):
        files = sorted(shards.glob("model-*.safetensors"))
        files[1].unlink()
        refused(shards, f"{len(files)} files that its names promise 1 are missing", files[1].name)

    def test_two_sets(self, shards: Path, refused):
        files = sorted(shards.glob("model-*.safetensors"))
        (shards / "model-00001-of-00001.safetensors").write_bytes(files[0].read_bytes())
        refused(shards, "has no model.safetensors.index.json", "of another set: fetch the model again")


def test_another_name_is_told(tmp_path: Path, refused):
    tiny_hf("llama", tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "consolidated.safetensors")
    refused(tmp_path, "has consolidated.safetensors, but neither model.safetensors nor", "rename the file")


def test_a_model_that_also_sees_is_named_as_one(tmp_path: Path, refused):
    tiny_hf("llama", tmp_path)
    settings: dict[str, Any] = json.loads((tmp_path / "config.json").read_text())
    settings["model_type"] = "gemma3"
    (tmp_path / "config.json").write_text(json.dumps(settings))
    refused(tmp_path, "model_type is 'gemma3', which is not supported; supported are llama")
    settings["text_config"] = {"model_type": "gemma3_text"}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    refused(
        tmp_path,
        "model_type is 'gemma3', a model that also sees or hears",
        "use a GGUF file of its text part",
    )
