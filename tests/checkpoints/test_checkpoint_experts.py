"""Experts in files: one tensor of all or one each, dense layers in between, and files that are wrong."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from builders import tiny_gguf, tiny_hf
from raw_gguf import small_llama
from safetensors.numpy import load_file, save_file

from shortlist.checkpoints import open_checkpoint
from shortlist.checkpoints.parts import bytes_per_token, describe_parts

MIXTRAL = {
    "llama.expert_count": 4,
    "llama.expert_used_count": 2,
}
EXPERTS = {
    "blk.0.ffn_gate.weight": None,
    "blk.0.ffn_up.weight": None,
    "blk.0.ffn_down.weight": None,
    "blk.0.ffn_gate_inp.weight": (4, 16),
    "blk.0.ffn_gate_exps.weight": (4, 24, 16),
    "blk.0.ffn_up_exps.weight": (4, 24, 16),
    "blk.0.ffn_down_exps.weight": (4, 16, 24),
}


def contents(path: Path) -> dict[str, bytes]:
    with open_checkpoint(path) as checkpoint:
        return {name: tensor.data.tobytes() for name, tensor in checkpoint.tensors.items()}


def fused(folder: Path) -> None:
    """Rewrite a folder as `transformers` holds its experts in memory: in one tensor for each layer."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    spelled = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}
    parts: dict[str, dict[tuple[str, int], np.ndarray]] = {}
    for name in [name for name in tensors if ".experts." in name]:
        layer, _, rest = name.partition(".experts.")
        number, kind, _ = rest.split(".")
        layer = layer.replace("block_sparse_moe", "mlp")
        parts.setdefault(layer, {})[spelled.get(kind, kind), int(number)] = tensors.pop(name)
    for name in [name for name in tensors if "block_sparse_moe" in name]:
        tensors[name.replace("block_sparse_moe", "mlp")] = tensors.pop(name)
    for layer, experts in parts.items():
        count = 1 + max(number for _, number in experts)
        gate, up, down = (
            np.stack([experts[kind, i] for i in range(count)])
            for kind in ("gate_proj", "up_proj", "down_proj")
        )
        tensors[f"{layer}.experts.gate_up_proj"] = np.concatenate([gate, up], axis=1)
        tensors[f"{layer}.experts.down_proj"] = down
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe", "qwen3_moe", "olmoe"])
def test_one_tensor_of_all_experts_is_the_same_as_one_each(family, tmp_path):
    tiny_hf(family, tmp_path)
    apart = contents(tmp_path)
    fused(tmp_path)
    assert contents(tmp_path) == apart
    assert "layers.1.experts.4.down" in apart


def test_older_gguf_files_have_a_tensor_for_each_expert(tmp_path):
    tiny_gguf("mixtral", tmp_path / "new.gguf")
    expected = contents(tmp_path / "new.gguf")
    reader = gguf.GGUFReader(tmp_path / "new.gguf")
    writer = gguf.GGUFWriter(tmp_path / "old.gguf", "llama")
    for field in reader.fields.values():
        if not field.name.startswith(("GGUF.", "general.")):
            kind = field.types[0]
            writer.add_key_value(
                field.name, field.contents(), kind, field.types[-1] if len(field.types) > 1 else None
            )
    for tensor in reader.tensors:
        if not tensor.name.endswith("_exps.weight"):
            writer.add_tensor(tensor.name, tensor.data)
            continue
        for i, expert in enumerate(tensor.data):
            writer.add_tensor(tensor.name.replace("_exps", f".{i}"), np.array(expert))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert contents(tmp_path / "old.gguf") == expected


def test_quantized_experts_are_views_on_their_tensor(tmp_path):
    model = tiny_gguf("olmoe", tmp_path / "m.gguf", "Q4_0")
    weights = model.model.layers[1].mlp.experts.down_proj.detach().numpy()
    with open_checkpoint(tmp_path / "m.gguf") as checkpoint:
        tensor = checkpoint.tensors["layers.1.experts.3.down"]
        assert (tensor.type, tensor.shape) == ("Q4_0", weights.shape[1:])
        expected = gguf.quants.quantize(weights[3], gguf.GGMLQuantizationType.Q4_0)
        assert tensor.data.tobytes() == expected.tobytes()


def test_which_layers_are_mixtures(tmp_path):
    sparse = {"num_hidden_layers": 5, "decoder_sparse_step": 2, "mlp_only_layers": [3]}
    tiny_hf("qwen3_moe", tmp_path, **sparse)
    with open_checkpoint(tmp_path) as checkpoint:
        mixture = checkpoint.config.mixture
        assert mixture is not None
        assert mixture.layers == (1,)
        assert "layers.0.gate" in checkpoint.tensors
        assert "layers.1.gate" not in checkpoint.tensors


def test_parts_and_what_a_token_reads(tmp_path):
    tiny_gguf("qwen2_moe", tmp_path / "m.gguf")
    with open_checkpoint(tmp_path / "m.gguf") as checkpoint:
        parts = {name: part["bytes"] for name, part in describe_parts(checkpoint).items()}
        assert parts["experts"] == 2 * 6 * 3 * (32 * 64 * 4)
        assert parts["feed-forward"] == 2 * 3 * (64 * 64 * 4)  # the shared experts
        assert parts["routers"] == 2 * (6 + 1) * 64 * 4
        read = sum(parts.values()) - parts["embedding"] - parts["experts"] / 2
        assert bytes_per_token(checkpoint) == read


def test_a_small_mixtral_is_valid(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(small_llama(settings=MIXTRAL, shapes=EXPERTS))
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.config.family == "mixtral"
        assert checkpoint.config.mixture is not None
        assert checkpoint.config.mixture.experts == 4


WRONG = {
    "no experts": ({"llama.expert_used_count": 0}, {}, "llama.expert_used_count is 0, but must be"),
    "more chosen than there are": (
        {"llama.expert_used_count": 5},
        {},
        "must be one whole number from 1 to 4",
    ),
    "far too many experts": ({"llama.expert_count": 1 << 31}, {}, "llama.expert_count is 2147483648"),
    "other number in the tensors": ({"llama.expert_count": 3}, {}, "says 3 experts"),
    "experts without a header": (
        {"llama.expert_count": None, "llama.expert_used_count": None},
        {},
        "lacks 3 of the tensors of a llama model",
    ),
    "chosen experts of none": ({"llama.expert_count": None}, {}, "expert_used_count is 2, which is not"),
    "one dimension too few": ({}, {"blk.0.ffn_up_exps.weight": (96, 16)}, "has shape (96, 16)"),
    "expert of another shape": (
        {},
        {"blk.0.ffn_up_exps.weight": (4, 16, 24)},
        "ffn_up_exps.weight[0] has shape",
    ),
    "no router": ({}, {"blk.0.ffn_gate_inp.weight": None}, "blk.0.ffn_gate_inp.weight"),
    "router of another shape": ({}, {"blk.0.ffn_gate_inp.weight": (3, 16)}, "has shape (3, 16)"),
    "down missing": ({}, {"blk.0.ffn_down_exps.weight": None}, "lacks 4 of the tensors"),
    "one expert too many": ({}, {"blk.0.ffn_up.4.weight": (24, 16)}, "blk.0.ffn_up.4.weight does not belong"),
    "shared expert": ({}, {"blk.0.ffn_up_shexp.weight": (24, 16)}, "ffn_up_shexp.weight does not belong"),
    "dense matrix beside": ({}, {"blk.0.ffn_up.weight": (24, 16)}, "blk.0.ffn_up.weight does not belong"),
    "braces for a number": (
        {},
        {"blk.0.ffn_up.{}.weight": (24, 16)},
        "blk.0.ffn_up.{}.weight is not one of a mixtral model",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_one_line(case, tmp_path, refused):
    settings, shapes, message = WRONG[case]
    path = tmp_path / "m.gguf"
    path.write_bytes(small_llama(settings={**MIXTRAL, **settings}, shapes={**EXPERTS, **shapes}))
    refused(path, str(path), message)


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("mixtral", {"num_local_experts": 6}, "lacks 6 of the tensors"),
        ("mixtral", {"num_local_experts": 4}, "does not belong"),
        ("mixtral", {"num_experts_per_tok": 6}, "must be one whole number from 1 to 5"),
        ("qwen3_moe", {"norm_topk_prob": "yes"}, "norm_topk_prob is 'yes', but must be true or false"),
        ("qwen3_moe", {"mlp_only_layers": 3}, "must be a list of layers"),
        ("qwen3_moe", {"decoder_sparse_step": 0}, "decoder_sparse_step is 0"),
        ("qwen2_moe", {"shared_expert_intermediate_size": 32}, "shared_expert"),
        ("olmoe", {"clip_qkv": 8.0}, "clip_qkv is 8.0, which is not supported"),
    ],
)
def test_folders_that_contradict_themselves(family, change, message, tmp_path, refused):
    tiny_hf(family, tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    refused(tmp_path, message)


def test_a_fused_tensor_with_half_a_row_too_many(tmp_path, refused):
    tiny_hf("olmoe", tmp_path)
    fused(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.0.mlp.experts.gate_up_proj"
    tensors[name] = np.ascontiguousarray(tensors[name][:, 1:])
    save_file(tensors, path, metadata={"format": "pt"})
    refused(tmp_path, "63 rows, which are not two matrices of one size")
