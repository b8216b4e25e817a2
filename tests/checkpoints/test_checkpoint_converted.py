"""Converted folders in the native decoder, against the PyTorch model that wrote them."""

import json

import numpy as np
import pytest
import torch
from builders import tiny_hf
from safetensors.numpy import save_file
from transformers import AutoTokenizer

from shortlist.checkpoints import open_checkpoint
from shortlist.errors import CheckpointError
from shortlist.model.decoder import Decoder
from shortlist.torch.converted import GateConfig, MoEConfig, install
from shortlist.torch.converted_files import load_converted, save_converted
from shortlist.torch.ternary import make_ternary

TOKENS = np.array([5, 17, 200, 3, 3, 99, 250, 7, 31, 64, 128, 2, 11, 90, 41], np.int32)
GATES = {
    "softmax": GateConfig("softmax", k=2),
    "normalized": GateConfig("softmax", k=3, normalize=True),
    "one": GateConfig("softmax", k=1, normalize=True),
    "norm_threshold": GateConfig("norm_threshold", tau=0.5, width=24),
    "all": GateConfig("norm_threshold", tau=1e-9, width=24),
    "shared_router": GateConfig("shared_router", k=1, width=24),
}


@pytest.fixture
def convert(tmp_path):
    """`convert(gate, shared=..., ternary=...)`: a folder with random mixtures in its layers 0 and 2."""
    model = tiny_hf("llama", tmp_path / "dense", num_hidden_layers=3)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "dense")

    def written(gate: GateConfig, *, shared: int = 0, ternary: bool = False):
        config = MoEConfig("test", 5, 32, shared, gate, ternary, (0, 2))
        torch.manual_seed(0)
        for layer in install(model, config).layers.values():
            for parameter in layer.parameters():
                torch.nn.init.normal_(parameter, std=0.2)
            if ternary:
                make_ternary(layer.experts)
        if gate.kind == "shared_router":
            for parameter in model.model.router.parameters():
                torch.nn.init.normal_(parameter, std=0.4)
        save_converted(model, config, tokenizer, tmp_path / "converted")
        return tmp_path / "converted"

    return written


def hidden_states(folder) -> tuple[np.ndarray, np.ndarray, Decoder]:
    """Native, and of PyTorch."""
    with open_checkpoint(folder) as checkpoint:
        decoder = Decoder(checkpoint)
    native = decoder.forward(TOKENS, decoder.new_cache(32, full_precision=True))
    with torch.no_grad():
        tokens = torch.tensor(TOKENS[None].astype(np.int64))
        theirs = load_converted(folder).model(tokens).last_hidden_state[0].numpy()
    return native, theirs, decoder


@pytest.mark.parametrize("shared", [0, 64])
@pytest.mark.parametrize("gate", GATES)
def test_hidden_states_equal_those_of_pytorch(convert, gate, shared):
    native, theirs, decoder = hidden_states(convert(GATES[gate], shared=shared))
    assert np.abs(native - theirs).max() < 1e-4 * np.abs(theirs).max()
    chosen = decoder.expert_loads.sum(axis=1) / len(TOKENS)
    expected = {"softmax": 2, "normalized": 3, "one": 1, "all": 5, "shared_router": 1}
    assert (
        chosen == pytest.approx(expected[gate]) if gate in expected else np.all((chosen >= 1) & (chosen < 5))
    )


def test_a_token_reads_as_many_experts_as_it_needs(convert):
    _, _, decoder = hidden_states(convert(GATES["norm_threshold"]))
    expert = 2 * (2 * 32 * 64 + 64 * 64)  # bfloat16, and rows of the down projection are padded to 64
    unread = 2 * 5 * len(TOKENS) - decoder.expert_loads.sum()
    assert unread > 0
    everything = all_layer_bytes(decoder) - unread * expert // len(TOKENS)
    assert abs(decoder.layer_bytes - everything) <= 1


def all_layer_bytes(decoder: Decoder) -> int:
    """Bytes of all layers, every expert read."""
    return decoder.nbytes - decoder.embedding.nbytes - decoder.head_rows.nbytes


@pytest.mark.parametrize("gate", ["softmax", "norm_threshold", "shared_router"])
def test_ternary_experts(convert, gate):
    native, theirs, decoder = hidden_states(convert(GATES[gate], shared=32, ternary=True))
    assert np.abs(native - theirs).max() < 0.03 * np.abs(theirs).max()  # inputs are rounded to 8 bits
    weights = 2 * 32 * 64 + 64 * 64  # of an expert; rows of the down projection are padded to 64
    experts = (
        5 * weights * 2.5 / 8 + 2 * weights
    )  # 2 bits and a scale of 16 for 32; bfloat16 of the shared one
    routers = {"softmax": 4 * 5 * 64, "norm_threshold": 4 * (24 * 64 + 5 * 64), "shared_router": 0}
    assert decoder._mixtures[0].nbytes == experts + routers[gate]


def test_codes_that_are_none_are_refused(convert):
    folder = convert(GATES["softmax"], ternary=True)
    path = folder / "model.safetensors"
    tensors = load_bytes(path)
    tensors["model.layers.0.mlp.experts.down_proj"][1, 2, 3] = 0b00001100
    save_file(tensors, path, metadata={"format": "pt"})
    with (
        open_checkpoint(folder) as checkpoint,
        pytest.raises(CheckpointError, match="codes other than 0, 1 and 2"),
    ):
        Decoder(checkpoint)


def load_bytes(path) -> dict[str, np.ndarray]:
    """Without bfloat16, which NumPy lacks: only what is wrong matters here."""
    from safetensors.torch import load_file as load_torch

    return {
        name: (t.float() if t.dtype == torch.bfloat16 else t).numpy() for name, t in load_torch(path).items()
    }


def test_bytes_are_nothing_but_ternary_experts(convert, refused):
    folder = convert(GATES["softmax"])
    path = folder / "model.safetensors"
    tensors = load_bytes(path)
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name] = np.zeros(tensors[name].shape, np.uint8)
    save_file(tensors, path, metadata={"format": "pt"})
    refused(folder, f"{name} has type U8, which is not supported there")


@pytest.mark.parametrize(
    ("where", "change", "message"),
    [
        ((), {"format": 2}, "shortlist.format is 2, and 1 is known: update shortlist"),
        (("moe",), {"experts": 4}, "says 4 experts"),
        (("moe",), {"experts": 1 << 40}, "experts is 1099511627776"),
        (("moe",), {"expert_width": 64}, "has shape (64, 32), but the header says (64, 64)"),
        (("moe",), {"layers": [0, 1]}, "lacks"),
        (("moe",), {"layers": [2, 0]}, "layers must name some of the 3 layers in ascending order"),
        (("moe",), {"layers": [3]}, "layers must name some of the 3 layers"),
        (("moe",), {"ternary": True}, "has type BF16, which is not supported there"),
        (("moe", "gate"), {"kind": "oracle"}, "kind is 'oracle', which is not supported"),
        (("moe", "gate"), {"k": 6}, "k is 6, but must be one whole number from 1 to 5"),
        (
            ("moe", "gate"),
            {"kind": "norm_threshold", "tau": 2.0, "width": 24},
            "tau is 2.0, but must be at most 1",
        ),
        (("moe", "gate"), {"kind": "norm_threshold", "tau": 0.5, "width": 24}, "lacks"),
        (("moe", "gate"), {"kind": "shared_router", "k": 1, "width": 24}, "lacks 6 of the tensors"),
        (("moe", "gate"), {"kind": "shared_router", "k": 2, "width": 24}, "k is 2, but must be"),
        (("moe", "gate"), {"kind": "shared_router", "k": 1, "width": 1 << 20}, "width is 1048576"),
    ],
)
def test_a_key_that_is_wrong_is_said_in_one_line(convert, refused, where, change, message):
    folder = convert(GATES["softmax"])
    path = folder / "config.json"
    settings = json.loads(path.read_text())
    part = settings["shortlist"]
    for key in where:
        part = part[key]
    part.update(change)
    path.write_text(json.dumps(settings))
    refused(folder, message)
