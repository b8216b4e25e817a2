"""Fused matrices: views of the right rows, and what is refused."""

import json

import builders
import numpy as np
import pytest
from builders import tiny_gguf, tiny_hf
from safetensors.numpy import load_file, save_file

from shortlist.checkpoints import open_checkpoint
from shortlist.errors import CheckpointError


def test_parts_are_views_of_the_whole_in_its_order(tmp_path):
    tiny_hf("phi3", tmp_path)
    whole = load_file(tmp_path / "model.safetensors")["model.layers.1.self_attn.qkv_proj.weight"]
    with open_checkpoint(tmp_path) as checkpoint:
        parts = [checkpoint.tensors[f"layers.1.{name}"] for name in ("q", "k", "v")]
        assert [part.shape for part in parts] == [(64, 64), (32, 64), (32, 64)]
        stored = np.concatenate([part.data.view("<f4").reshape(part.shape) for part in parts])
        np.testing.assert_array_equal(stored, whole)


def changed(folder, change):
    tiny_hf("phi3", folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def shorter(weights):
    name = "model.layers.0.mlp.gate_up_proj.weight"
    weights[name] = weights[name][:-1].copy()


def twice(weights):
    weights["model.layers.0.self_attn.k_proj.weight"] = np.zeros((32, 64), np.float32)


def absent(weights):
    del weights["model.layers.1.self_attn.qkv_proj.weight"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (shorter, r"gate_up_proj.weight has shape \(191, 64\), but the header says \(192, 64\)"),
        (twice, "qkv_proj.weight holds what model.layers.0.self_attn.k_proj.weight holds too"),
        (absent, "the first is model.layers.1.self_attn.qkv_proj.weight"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, change, words):
    changed(tmp_path, change)
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(tmp_path)


def test_longrope_is_refused_by_name(tmp_path):
    tiny_hf("phi3", tmp_path / "folder")
    path = tmp_path / "folder" / "config.json"
    config = json.loads(path.read_text())
    for kind in ("longrope", "su", "yarn"):  # the class reads yarn as longrope
        config["rope_parameters"]["rope_type"] = kind
        path.write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match=f"rope_type is '{kind}', which is not supported"):
            open_checkpoint(tmp_path / "folder")

    def more(writer):
        for name in ("long", "short"):
            writer.add_tensor(f"rope_factors_{name}.weight", np.ones(4, np.float32))

    tiny_gguf("phi3", tmp_path / "m.gguf", more=more)
    with pytest.raises(CheckpointError, match=r"rope_factors_(long|short).weight .*longrope"):
        open_checkpoint(tmp_path / "m.gguf")


def test_a_part_of_each_head_turns(tmp_path):
    tiny_hf("phi3", tmp_path)
    with open_checkpoint(tmp_path) as checkpoint:
        assert [len(each) for each in checkpoint.config.rope_frequencies] == [4, 4]
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["rope_parameters"]["partial_rotary_factor"] = 0.2
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"partial_rotary_factor is 0\.2, so 3 numbers of a head turn"):
        open_checkpoint(tmp_path)


def test_a_gguf_file_without_a_fused_matrix_lacks_the_whole(tmp_path, monkeypatch):
    keep = builders._as_converter_does

    def without(family, name, array, config):
        return {} if name == "model.layers.1.mlp.gate_up_proj.weight" else keep(family, name, array, config)

    monkeypatch.setattr(builders, "_as_converter_does", without)
    tiny_gguf("phi3", tmp_path / "m.gguf")
    with pytest.raises(CheckpointError, match=r"the first is blk\.1\.ffn_up\.weight"):
        open_checkpoint(tmp_path / "m.gguf")
