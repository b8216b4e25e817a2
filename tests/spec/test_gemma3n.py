"""What is gemma3n's own in both formats: what its checkpoints leave unsaid, and what is refused."""

import json
import shutil
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from builders import tiny_hf
from safetensors.numpy import load_file, save_file

from shortlist.checkpoints import open_checkpoint
from shortlist.errors import CheckpointError
from shortlist.spec.config import ModelConfig, Streams
from shortlist.spec.gemma3n import gguf_own, hf_own, split_streams
from shortlist.spec.settings import Settings
from shortlist.spec.tensors import StoredTensor

WINDOWS = (512, 512, 512, 512, 0) * 7  # of E4B
CONFIG = ModelConfig(
    family="gemma3n",
    vocab_size=320,
    width=64,
    layers=35,
    heads=4,
    kv_heads=2,
    head_dim=32,
    ffn_width=96,
    norm_eps=1e-6,
    norm_offset=0.0,
    context_length=256,
    tied_head=True,
    activation="gelu_tanh",
    embedding_scale=8.0,
    attention_scale=1.0,
    windows=WINDOWS,
    rope_frequencies=((1.0,) * 16,) * 35,
    rope_interleaved=False,
)
CUTOFF = NormalDist().inv_cdf(0.95)


def hf(**values: Any) -> dict[str, Any]:
    return vars(hf_own(Settings(Path("config.json"), values), CONFIG))


def gguf(**values: Any) -> dict[str, Any]:
    return vars(gguf_own(Settings(Path("m.gguf"), values), CONFIG, {}))


def test_what_a_folder_leaves_unsaid_is_what_transformers_fills_in():
    from transformers import Gemma3nTextConfig

    theirs, ours = Gemma3nTextConfig(), hf()
    assert ours["laurel_rank"] == theirs.laurel_rank
    assert ours["streams"] == Streams(4, 0, 256, 262_144)
    shares = theirs.activation_sparsity_pattern
    assert isinstance(shares, list)
    assert [cutoff is not None for cutoff in ours["ffn_cutoffs"]] == [share > 0 for share in shares]
    assert ours["ffn_cutoffs"][0] == pytest.approx(CUTOFF)
    assert list(WINDOWS) == [0 if kind == "full_attention" else 512 for kind in theirs.layer_types]
    shared = [mode == "reuse" for mode in theirs.kv_sharing_modes]
    assert [source != i for i, source in enumerate(ours["kv_sources"])] == shared


def test_layers_share_keys_and_values_of_the_last_one_of_their_kind():
    sources = hf()["kv_sources"]
    assert sources[:20] == tuple(range(20))
    assert sources[20:25] == (18, 18, 18, 18, 19)
    assert hf(num_kv_shared_layers=0)["kv_sources"] == tuple(range(35))


def test_what_a_gguf_file_leaves_unsaid_is_what_llama_cpp_knows():
    extras = gguf()
    assert extras["ffn_cutoffs"] == pytest.approx((CUTOFF,) * 10 + (None,) * 25)
    assert extras["kv_sources"] == hf()["kv_sources"]
    assert extras["streams"].count == 4


def test_a_layer_without_a_cutoff_lies_infinitely_low():
    scales = [1.5] * 2 + [float("-inf")] * 33
    assert gguf(activation_sparsity_scale=scales)["ffn_cutoffs"] == (1.5, 1.5) + (None,) * 33


@pytest.mark.parametrize(
    ("read", "values", "word"),
    [
        (hf, {"altup_correct_scale": False}, "altup_correct_scale is false"),
        (hf, {"activation_sparsity_pattern": [0.9]}, "must be 35 numbers"),
        (hf, {"activation_sparsity_pattern": [1.0] * 35}, "shares from 0 to below 1"),
        (hf, {"activation_sparsity_pattern": [float("nan")] * 35}, "must be 35 numbers"),
        (hf, {"activation_sparsity_pattern": [10**400] * 35}, "must be 35 numbers"),
        (hf, {"altup_num_inputs": 1}, "from 2 to 16"),
        (hf, {"altup_active_idx": 4}, "from 0 to 3"),
        (hf, {"num_kv_shared_layers": 31}, "without keys and values"),
        (hf, {"num_kv_shared_layers": 40}, "without keys and values"),
        (gguf, {"activation_sparsity_scale": [float("inf")] * 35}, "without neurons"),
        (gguf, {"activation_sparsity_scale": ["many"] * 35}, "must be 35 numbers"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(read, values, word):
    with pytest.raises(CheckpointError, match=word) as caught:
        read(**values)
    assert len(str(caught.value).splitlines()) == 1


def test_stacked_matrices_are_split_without_a_copy():
    data = np.arange(3 * 4 * 4, dtype=np.float32).view(np.uint8)
    tensors = {"expand": StoredTensor("altup_proj.weight", "F32", (3, 4, 4), data), "other": None}
    split_streams(tensors)  # pyright: ignore[reportArgumentType]
    assert tensors.keys() == {"other", "expand_1", "expand_2", "expand_3"}
    second = tensors["expand_2"]
    assert second is not None
    assert second.shape == (4, 4)
    assert second.data.view(np.float32)[0] == 16
    assert np.shares_memory(second.data, data)


def test_keys_and_values_that_nothing_reads_are_left_alone(tmp_path: Path):
    """The checkpoints that were released have them in every layer."""
    tiny_hf("gemma3n", tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    own = "model.layers.0.self_attn"
    for name in ("k_proj", "v_proj", "k_norm"):
        assert f"model.layers.5.self_attn.{name}.weight" not in tensors
        tensors[f"model.layers.5.self_attn.{name}.weight"] = tensors[f"{own}.{name}.weight"].copy()
    save_file(tensors, path)
    with open_checkpoint(tmp_path) as checkpoint:
        assert "layers.0.k" in checkpoint.tensors
        assert not {"layers.5.k", "layers.5.v", "layers.5.k_norm"} & checkpoint.tensors.keys()


def test_a_table_of_another_size_is_refused(tmp_path: Path, refused):
    tiny_hf("gemma3n", tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    name = "model.embed_tokens_per_layer.weight"
    save_file({**tensors, name: tensors[name][:-1].copy()}, path)
    refused(tmp_path, name, "(299, 120)", "(300, 120)")


def test_the_text_part_of_a_model_that_also_sees_and_hears(tmp_path: Path):
    text, whole = tmp_path / "text", tmp_path / "whole"
    tiny_hf("gemma3n", text)
    shutil.copytree(text, whole)
    config = json.loads((text / "config.json").read_text())
    (whole / "config.json").write_text(json.dumps({"model_type": "gemma3n", "text_config": config}))
    tensors = load_file(text / "model.safetensors")
    wrapped = {name.replace("model.", "model.language_model.", 1): values for name, values in tensors.items()}
    wrapped["model.audio_tower.conformer.0.norm.weight"] = np.ones(3, np.float32)
    save_file(wrapped, whole / "model.safetensors")
    with open_checkpoint(text) as one, open_checkpoint(whole) as other:
        assert one.config == other.config
        assert one.tensors.keys() == other.tensors.keys()
        for name, tensor in one.tensors.items():
            assert np.array_equal(tensor.data, other.tensors[name].data)
