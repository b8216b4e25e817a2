"""Logits against `transformers` for keys of config.json that change numbers: stated, left out, combined."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import tiny_gguf, tiny_hf

from shortlist.checkpoints import open_checkpoint
from shortlist.model.decoder import Decoder
from shortlist.sites.head import softcap

TOKENS = np.random.default_rng(0).integers(0, 256, 48).astype(np.int32)
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}


def ours(path: Path) -> np.ndarray:
    with open_checkpoint(path) as checkpoint:
        decoder = Decoder(checkpoint, threads=1)
    hidden = decoder.forward(TOKENS, decoder.new_cache(64, full_precision=True))
    return softcap(decoder.head_rows.matmul(hidden), decoder.logit_cap)


def logits_of(model: Any) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model.eval()(torch.tensor(TOKENS[None].astype(np.int64))).logits[0].numpy()


def theirs(folder: Path) -> np.ndarray:
    """The model that `from_pretrained` loads from a folder."""
    import torch
    from transformers import AutoModelForCausalLM

    return logits_of(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


def rewrite(folder: Path, *gone: str, **values: Any) -> None:
    file = folder / "config.json"
    settings = json.loads(file.read_text()) | values
    file.write_text(json.dumps({key: value for key, value in settings.items() if key not in gone}))


BIASED = ("llama", "arcee", "qwen3", "gemma3", "gemma3n", "qwen3_moe", "olmoe")
WINDOW = {"sliding_window": 8, "use_sliding_window": True}
MIXED = {"layer_types": ["sliding_attention", "full_attention"]}
STATED: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"attention_bias {family}": (family, {"attention_bias": True}) for family in BIASED},
    **{f"mlp_bias {family}": (family, {"mlp_bias": True}) for family in ("llama", "arcee")},
    "every bias": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "no biases": ("qwen2_moe", {"qkv_bias": False}),
    "layers from the second on": ("qwen2", {**WINDOW, "max_window_layers": 1}),
    "no layer early enough": ("qwen3", {**WINDOW, "max_window_layers": 28}),
    "a list comes before the rule": ("qwen3", {**WINDOW, **MIXED, "max_window_layers": 2}),
    "every second layer": ("qwen2_moe", {**WINDOW, "num_hidden_layers": 5, "max_window_layers": 3}),
    "every layer of experts": ("qwen3_moe", WINDOW),
    "every layer of mixtral": ("mixtral", {"sliding_window": 8}),
    "a window that is off": ("qwen2_moe", {"sliding_window": 8, "max_window_layers": 3}),
    "gemma with a list": ("gemma3", {"layer_types": ["full_attention", "sliding_attention"] * 3}),
    "gemma with one cap": ("gemma3", {"final_logit_softcapping": 3.0}),
    "another scale of attention": ("gemma3", {"query_pre_attn_scalar": 7}),
    "weights of experts divided": ("qwen2_moe", {"norm_topk_prob": True}),
    "weights of olmoe divided": ("olmoe", {"norm_topk_prob": True}),
    "weights not divided": ("qwen3_moe", {"norm_topk_prob": False}),
    "sparse layers": (
        "qwen3_moe",
        {"num_hidden_layers": 4, "decoder_sparse_step": 2, "mlp_only_layers": [3]},
    ),
    "relu": ("llama", {"hidden_act": "relu"}),
    "squared relu": ("qwen3", {"hidden_act": "relu2"}),
    "a large epsilon": ("llama", {"rms_norm_eps": 0.5}),
    "heads of their own size": ("llama", {"head_dim": 24}),
    "tied": ("qwen2", {"tie_word_embeddings": True}),
    "not tied": ("gemma3", {"tie_word_embeddings": False}),
    "window, biases and yarn": (
        "qwen3",
        {**WINDOW, **MIXED, "attention_bias": True, "rope_parameters": YARN},
    ),
}


@pytest.mark.parametrize("case", STATED)
def test_a_stated_key(tmp_path: Path, case: str):
    family, overrides = STATED[case]
    expected = logits_of(tiny_hf(family, tmp_path, **overrides))
    assert difference(ours(tmp_path), expected) < 1e-4


ROPES: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 2.5},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "yarn": YARN,
    "yarn of the whole context": {"rope_type": "yarn", "factor": 4.0},
    "yarn without a whole": {**YARN, "truncate": False, "beta_fast": 4.0, "beta_slow": 0.5},
    "yarn with its factor": {**YARN, "attention_factor": 1.5},
    "yarn with both scales": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.3},
    "yarn with one scale": {**YARN, "mscale": 0.7},
    "yarn that shrinks": {**YARN, "factor": 0.5},
    "yarn with a short passage": {**YARN, "beta_fast": 1.0, "beta_slow": 1.0, "truncate": False},
}


@pytest.mark.parametrize(("family", "case"), [*(("llama", case) for case in ROPES), ("qwen3", "yarn")])
def test_rope_in_both_spellings(tmp_path: Path, family: str, case: str):
    scaling = {"rope_theta": 500.0, **ROPES[case]}
    expected = logits_of(tiny_hf(family, tmp_path, rope_parameters=dict(scaling)))
    plain = logits_of(tiny_hf(family, tmp_path / "plain", rope_parameters={"rope_theta": 500.0}))
    assert (difference(plain, expected) > 1e-2) == (case != "dynamic")
    assert difference(ours(tmp_path), expected) < 1e-4
    old = {("type" if key == "rope_type" else key): value for key, value in ROPES[case].items()}
    rewrite(tmp_path, "rope_parameters", rope_theta=500.0, rope_scaling=old)
    assert difference(theirs(tmp_path), expected) < 1e-4
    assert difference(ours(tmp_path), expected) < 1e-4


def test_rope_of_gemma_by_kind_of_layer(tmp_path: Path):
    nested = {
        "full_attention": {**YARN, "rope_theta": 900.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 70.0},
    }
    expected = logits_of(tiny_hf("gemma3", tmp_path, rope_parameters=nested))
    assert difference(ours(tmp_path), expected) < 1e-4
    rewrite(tmp_path, "rope_parameters", rope_theta=900.0, rope_local_base_freq=70.0, rope_scaling=YARN)
    assert difference(theirs(tmp_path), expected) < 1e-4
    assert difference(ours(tmp_path), expected) < 1e-4


def test_the_older_key_of_rope_comes_first(tmp_path: Path):
    tiny_hf("llama", tmp_path, rope_parameters={"rope_theta": 700.0})
    rewrite(tmp_path, rope_scaling={"rope_type": "linear", "factor": 3.0}, rope_theta=300.0)
    assert difference(ours(tmp_path), theirs(tmp_path)) < 1e-4
    with open_checkpoint(tmp_path) as checkpoint:
        base = checkpoint.config.rope_frequencies[0]
    assert base[0] == pytest.approx(1 / 3)
    assert base[1] == pytest.approx(300.0 ** (-1 / 8) / 3)


def test_the_original_context_beside_the_scaling_comes_first(tmp_path: Path):
    tiny_hf("llama", tmp_path, rope_parameters={**YARN, "rope_theta": 500.0})
    rewrite(tmp_path, original_max_position_embeddings=64)
    beside = ours(tmp_path)
    assert difference(beside, theirs(tmp_path)) < 1e-4
    rewrite(tmp_path, "original_max_position_embeddings")
    assert difference(beside, ours(tmp_path)) > 1e-3


def test_yarn_without_a_factor_takes_the_ratio_of_contexts(tmp_path: Path):
    expected = logits_of(
        tiny_hf("llama", tmp_path, rope_parameters={**YARN, "factor": 16.0, "rope_theta": 9.0})
    )
    rewrite(tmp_path, rope_parameters={**YARN, "factor": None, "rope_theta": 9.0})  # 256 / 16
    assert difference(ours(tmp_path), expected) < 1e-4


LEFT_OUT = {
    "windows of gemma": ("gemma3", ("layer_types",), {}),
    "a pattern of gemma": ("gemma3", ("layer_types",), {"sliding_window_pattern": 2}),
    "scale of gemma": ("gemma3", ("query_pre_attn_scalar",), {}),
    "activation of gemma": ("gemma3", ("hidden_activation",), {"hidden_act": "silu"}),
    "cap of gemma3n": ("gemma3n", ("final_logit_softcapping",), {}),
    "cap of gemma": ("gemma3", ("final_logit_softcapping",), {}),
    "base of gemma": ("gemma3", ("rope_parameters",), {}),
    "base of mixtral": ("mixtral", ("rope_parameters",), {}),
    "base of llama": ("llama", ("rope_parameters",), {}),
    "epsilon of arcee": ("arcee", ("rms_norm_eps",), {}),
    "epsilon of llama": ("llama", ("rms_norm_eps",), {}),
    "head size": ("llama", ("head_dim",), {}),
    "null head size": ("llama", (), {"head_dim": None}),
    "activation": ("arcee", ("hidden_act",), {}),
    "whether windows hold": ("qwen2", ("use_sliding_window", "layer_types"), {"sliding_window": 8}),
    "first layer with a window": (
        "qwen3",
        ("max_window_layers", "layer_types"),
        {"sliding_window": 8, "use_sliding_window": True},
    ),
    "window of llama": ("llama", (), {"sliding_window": 8}),
    "null window": ("mistral", (), {"sliding_window": None}),
    "weights of qwen2_moe": ("qwen2_moe", ("norm_topk_prob",), {}),
    "weights of qwen3_moe": ("qwen3_moe", ("norm_topk_prob",), {}),
    "weights of olmoe": ("olmoe", ("norm_topk_prob",), {}),
    "biases": ("qwen2_moe", ("qkv_bias",), {}),
    "sparse steps": ("qwen2_moe", ("decoder_sparse_step", "mlp_only_layers"), {}),
    "tied": ("gemma3", ("tie_word_embeddings",), {}),
    "not tied": ("llama", ("tie_word_embeddings",), {}),
    "how many are chosen": ("mixtral", ("num_experts_per_tok",), {}),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_a_key_that_is_left_out(tmp_path: Path, case: str):
    family, gone, values = LEFT_OUT[case]
    tiny_hf(family, tmp_path)
    rewrite(tmp_path, *gone, **values)
    assert difference(ours(tmp_path), theirs(tmp_path)) < 1e-4


def test_a_head_beside_a_tied_embedding(tmp_path: Path):
    """`from_pretrained` does not tie what differs."""
    expected = logits_of(tiny_hf("llama", tmp_path))
    rewrite(tmp_path, tie_word_embeddings=True)
    assert difference(theirs(tmp_path), expected) < 1e-4
    assert difference(ours(tmp_path), expected) < 1e-4
    with open_checkpoint(tmp_path) as checkpoint:
        (note,) = checkpoint.notes
        assert not checkpoint.config.tied_head
        assert "lm_head.weight differs from model.embed_tokens.weight" in note


def test_a_tied_head_alone_is_the_embedding(tmp_path: Path):
    from safetensors.numpy import load_file, save_file

    expected = logits_of(tiny_hf("qwen3", tmp_path, tie_word_embeddings=True))
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    save_file(tensors, file, metadata={"format": "pt"})
    assert difference(theirs(tmp_path), expected) < 1e-4
    assert difference(ours(tmp_path), expected) < 1e-4


def test_names_of_a_base_model(tmp_path: Path):
    model = tiny_hf("qwen3", tmp_path, tie_word_embeddings=True)
    expected = logits_of(model)
    model.model.save_pretrained(tmp_path)
    assert difference(theirs(tmp_path), expected) < 1e-4
    assert difference(ours(tmp_path), expected) < 1e-4


def test_a_base_model_without_a_tied_head_is_refused(tmp_path: Path, refused):
    model = tiny_hf("llama", tmp_path)
    model.model.save_pretrained(tmp_path)
    refused(tmp_path, "no language-model head (lm_head.weight)", "AutoModelForCausalLM")


GGUF_ROPES = ["linear", "llama3", "yarn", "yarn with a short passage", "yarn that shrinks"]


@pytest.mark.parametrize("case", GGUF_ROPES)
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_rope_in_gguf(tmp_path: Path, family: str, case: str):
    # llama.cpp has whole pairs alone.
    scaling = {"rope_theta": 500.0, **ROPES[case], "truncate": True}
    if case in ("linear", "llama3"):
        del scaling["truncate"]
    model = tiny_gguf(family, tmp_path / "m.gguf", rope_parameters=scaling)
    assert difference(ours(tmp_path / "m.gguf"), logits_of(model)) < 1e-4


@pytest.mark.parametrize("overrides", [{"attention_bias": True}, {"mlp_bias": True}])
def test_biases_in_gguf(tmp_path: Path, overrides: dict[str, bool]):
    model = tiny_gguf("llama", tmp_path / "m.gguf", **overrides)
    assert difference(ours(tmp_path / "m.gguf"), logits_of(model)) < 1e-4


def test_a_factor_of_attention_in_gguf(tmp_path: Path):
    scaling = {**YARN, "rope_theta": 500.0}
    tiny_gguf(
        "llama",
        tmp_path / "m.gguf",
        rope_parameters=scaling,
        more=lambda w: w.add_rope_scaling_attn_factors(1.25),
    )
    factor = (0.1 * np.log(4.0) + 1) * 1.25
    model = tiny_hf("llama", tmp_path / "hf", rope_parameters={**scaling, "attention_factor": factor})
    assert difference(ours(tmp_path / "m.gguf"), logits_of(model)) < 1e-4


def test_the_older_key_of_a_linear_scale_in_gguf(tmp_path: Path):
    linear = {"rope_type": "linear", "factor": 3.0, "rope_theta": 500.0}
    expected = logits_of(tiny_hf("llama", tmp_path / "hf", rope_parameters=linear))
    plain = {"rope_theta": 500.0}
    old = lambda writer: writer.add_float32("llama.rope.scale_linear", 3.0)  # noqa: E731
    tiny_gguf("llama", tmp_path / "m.gguf", rope_parameters=plain, more=old)
    assert difference(ours(tmp_path / "m.gguf"), expected) < 1e-4

    def both(writer: Any) -> None:
        old(writer)
        writer.add_rope_scaling_factor(0.0)  # present, and no scaling

    tiny_gguf("llama", tmp_path / "n.gguf", rope_parameters=plain, more=both)
    unscaled = logits_of(tiny_hf("llama", tmp_path / "plain", rope_parameters=plain))
    assert difference(ours(tmp_path / "n.gguf"), unscaled) < 1e-4
