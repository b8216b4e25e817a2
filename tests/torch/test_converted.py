"""Converted models: what config.json says of them, saved and loaded with the same logits."""

import json

import pytest
import torch
from builders import tiny_hf
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from shortlist.errors import CheckpointError, UsageError
from shortlist.torch.converted import GateConfig, MoEConfig, install
from shortlist.torch.converted_files import load_converted, save_converted
from shortlist.torch.ternary import make_ternary

KINDS = {
    "softmax": GateConfig("softmax", k=2, normalize=True),
    "norm_threshold": GateConfig("norm_threshold", tau=0.5, width=8),
    "shared_router": GateConfig("shared_router", k=1, width=8),
}
IDS = torch.randint(0, 256, (2, 9), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def dense(tmp_path):
    model = tiny_hf("llama", tmp_path / "dense")
    return model, AutoTokenizer.from_pretrained(tmp_path / "dense")


def saved(dense, folder, gate, *, shared=32, ternary=False):
    model, tokenizer = dense
    torch.manual_seed(0)
    config = MoEConfig("test", 3, 32, shared, gate, ternary, (1,))
    for layer in install(model, config).layers.values():
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        if ternary:
            make_ternary(layer.experts)
    save_converted(model, config, tokenizer, folder)
    return model


@pytest.mark.parametrize("ternary", [False, True])
@pytest.mark.parametrize("shared", [0, 32])
@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_model_computes_what_was_saved(dense, tmp_path, kind, shared, ternary):
    folder = tmp_path / "moe"
    model = saved(dense, folder, KINDS[kind], shared=shared, ternary=ternary)
    again = load_converted(folder)
    with torch.no_grad():
        assert torch.equal(again(IDS).logits, model(IDS).logits)


def test_the_files_are_as_documented(dense, tmp_path):
    saved(dense, tmp_path / "moe", KINDS["norm_threshold"], ternary=True)
    settings = json.loads((tmp_path / "moe" / "config.json").read_text())
    assert settings["model_type"] == "llama"
    assert settings["shortlist"]["format"] == 1
    assert settings["shortlist"]["moe"]["gate"] == {
        "kind": "norm_threshold",
        "k": None,
        "tau": 0.5,
        "normalize": False,
        "width": 8,
    }
    tensors = load_file(tmp_path / "moe" / "model.safetensors")
    mixture = "model.layers.1.mlp."
    found = {
        n.removeprefix(mixture): (list(t.shape), t.dtype) for n, t in tensors.items() if n.startswith(mixture)
    }
    assert found == {
        "gate.up.weight": ([8, 64], torch.float32),
        "gate.up.bias": ([8], torch.float32),
        "gate.down.weight": ([3, 8], torch.float32),
        "gate.down.bias": ([3], torch.float32),
        "experts.gate_up_proj": ([3, 64, 16], torch.uint8),
        "experts.gate_up_scale": ([3, 64], torch.float32),
        "experts.down_proj": ([3, 64, 8], torch.uint8),
        "experts.down_scale": ([3, 64], torch.float32),
        "shared_expert.gate_proj.weight": ([32, 64], torch.bfloat16),
        "shared_expert.up_proj.weight": ([32, 64], torch.bfloat16),
        "shared_expert.down_proj.weight": ([64, 32], torch.bfloat16),
    }
    assert tensors["model.layers.0.mlp.up_proj.weight"].dtype == torch.bfloat16


def test_the_gate_of_a_softmax_is_one_matrix(dense, tmp_path):
    saved(dense, tmp_path / "moe", KINDS["softmax"])
    assert list(
        load_file(tmp_path / "moe" / "model.safetensors")["model.layers.1.mlp.gate.weight"].shape
    ) == [3, 64]


def test_a_folder_that_exists_is_left_alone(dense, tmp_path):
    (tmp_path / "moe").mkdir()
    with pytest.raises(UsageError, match="exists"):
        saved(dense, tmp_path / "moe", KINDS["softmax"])
    assert list((tmp_path / "moe").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "update shortlist"),
        ({"format": "1"}, "convert it again"),
        ({"moe": {}}, "convert it again"),
        ({"moe.experts": -1}, "convert it again"),
        ({"moe.experts": 1 << 40}, "convert it again"),
        ({"moe.unknown": 1}, "convert it again"),
        ({"moe.gate": {"kind": "other"}}, "convert it again"),
        ({"moe.expert_width": 64}, "convert it again"),
    ],
)
def test_a_configuration_that_is_not_ours_is_one_clear_error(dense, tmp_path, change, message):
    saved(dense, tmp_path / "moe", KINDS["softmax"])
    path = tmp_path / "moe" / "config.json"
    settings = json.loads(path.read_text())
    for key, value in change.items():
        name, _, inner = key.partition(".")
        if inner:
            settings["shortlist"][name][inner] = value
        else:
            settings["shortlist"][name] = value
    path.write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=message):
        load_converted(tmp_path / "moe")


def test_a_folder_without_the_key_or_a_tensor_is_refused(dense, tmp_path):
    with pytest.raises(CheckpointError, match="not a converted model"):
        load_converted(tmp_path / "dense")
    saved(dense, tmp_path / "moe", KINDS["softmax"])
    path = tmp_path / "moe" / "model.safetensors"
    tensors = load_file(path)
    tensors.pop("model.layers.1.mlp.experts.down_proj")
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match="down_proj"):
        load_converted(tmp_path / "moe")
    path.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_converted(tmp_path / "moe")
