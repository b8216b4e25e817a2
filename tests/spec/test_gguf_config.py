"""Configuration from GGUF metadata: the constants of llama.cpp, and settings that are refused."""

import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from builders import tiny_gguf, tiny_hf
from raw_gguf import BOOL, array_key, small_llama, text_key

from shortlist.checkpoints import open_checkpoint
from shortlist.spec import rope
from shortlist.spec.config import ModelConfig
from shortlist.spec.families import FAMILIES


def config_of(path: Path, **changes) -> ModelConfig:
    path.write_bytes(small_llama(**changes))
    with open_checkpoint(path) as checkpoint:
        return checkpoint.config


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_is_the_same_in_both_formats(tmp_path: Path, family: str):
    """Up to what the GGUF converter moves from the configuration into the weights."""
    moved = {"family", "norm_eps", "norm_offset", "rope_interleaved", "ffn_cutoffs"}
    tiny_gguf(family, tmp_path / "model.gguf")
    # llama.cpp has no window where transformers has it in every layer.
    without = {"sliding_window": None} if FAMILIES[family].window_rule == "all" else {}
    tiny_hf(family, tmp_path / "folder", **without)
    with open_checkpoint(tmp_path / "model.gguf") as ours, open_checkpoint(tmp_path / "folder") as theirs:
        for name, value in vars(theirs.config).items():
            if name not in moved:
                assert getattr(ours.config, name) == value, name
        assert ours.config.norm_eps == pytest.approx(theirs.config.norm_eps, rel=1e-6)
        assert ours.config.ffn_cutoffs == pytest.approx(theirs.config.ffn_cutoffs)
        assert ours.config.norm_offset == 0.0
        assert ours.config.rope_interleaved == (
            FAMILIES[family].gguf_architecture in ("llama", "arcee", "granite", "smollm3")
        )
        assert ours.tensors.keys() == theirs.tensors.keys()


def test_gemma3_has_its_constants(tmp_path: Path):
    tiny_gguf("gemma3", tmp_path / "model.gguf", num_hidden_layers=7)
    with open_checkpoint(tmp_path / "model.gguf") as checkpoint:
        config = checkpoint.config
    assert config.windows == (8, 8, 8, 8, 8, 0, 8)
    assert config.rope_frequencies[0] == rope.plain(10_000.0, config.head_dim)
    assert config.rope_frequencies[5] == rope.plain(1_000_000.0, config.head_dim)
    assert config.embedding_scale == math.sqrt(config.width)
    assert config.attention_scale == config.head_dim**-0.5
    assert config.activation == "gelu_tanh"


def test_gemma3_27b_scales_attention_by_another_size(tmp_path: Path):
    tiny_gguf("gemma3", tmp_path / "model.gguf", num_hidden_layers=62)
    with open_checkpoint(tmp_path / "model.gguf") as checkpoint:
        config = checkpoint.config
    assert config.attention_scale == (config.width / config.heads) ** -0.5
    assert config.attention_scale != config.head_dim**-0.5


def test_linear_scaling_divides(tmp_path: Path):
    config = config_of(tmp_path / "a.gguf", settings={"llama.rope.scaling.factor": 4.0})
    assert config.rope_frequencies == (rope.linear(rope.plain(10_000.0, 8), 4.0),)
    unscaled = text_key("llama.rope.scaling.type", "none")
    config = config_of(
        tmp_path / "b.gguf",
        settings={"llama.rope.scaling.factor": 4.0, "llama.rope.scaling.type": unscaled},
    )
    assert config.rope_frequencies == (rope.plain(10_000.0, 8),)


def test_llama3_scaling_comes_as_a_tensor(tmp_path: Path):
    scaling = {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    tiny_gguf("llama", tmp_path / "model.gguf", rope_parameters=scaling)
    tiny_hf("llama", tmp_path / "folder", rope_parameters=scaling)
    with open_checkpoint(tmp_path / "model.gguf") as ours, open_checkpoint(tmp_path / "folder") as theirs:
        assert "rope_freqs" not in ours.tensors
        np.testing.assert_allclose(
            ours.config.rope_frequencies[0], theirs.config.rope_frequencies[0], rtol=1e-6
        )
        assert ours.config.rope_frequencies[0] != rope.plain(500_000.0, ours.config.head_dim)


def test_a_window_is_for_the_layers_that_the_pattern_flags(tmp_path: Path):
    for pattern, windows in (([True, False, True], (8, 0, 8)), (2, (8, 0, 8)), (0, (8, 8, 8))):
        path = tmp_path / f"{pattern}.gguf"

        def more(writer: gguf.GGUFWriter, pattern: Any = pattern) -> None:
            writer.add_sliding_window_pattern(pattern)

        tiny_gguf("gemma3", path, num_hidden_layers=3, more=more)
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.config.windows == windows
            assert checkpoint.notes == ()


@pytest.mark.parametrize("family", [name for name in FAMILIES if not name.startswith(("gemma", "olmo2"))])
def test_a_window_where_llama_cpp_has_none_is_noted(tmp_path: Path, family: str):
    tiny_gguf(family, tmp_path / "model.gguf", more=lambda writer: writer.add_sliding_window(16))
    with open_checkpoint(tmp_path / "model.gguf") as checkpoint:
        assert set(checkpoint.config.windows) == {0}
        (note,) = checkpoint.notes
    assert f"{FAMILIES[family].gguf_architecture}.attention.sliding_window is 16 and is not applied" in note


WRONG = {
    "missing": ({"llama.block_count": None}, "llama.block_count is missing"),
    "absurd width": ({"llama.embedding_length": 1 << 31}, "from 1 to 1048576"),
    "absurd number of layers": ({"llama.block_count": 1 << 31}, "llama.block_count is 2147483648"),
    "no layers": ({"llama.block_count": 0}, "llama.block_count is 0"),
    "no heads": ({"llama.attention.head_count": 0}, "head_count is 0"),
    "heads that cannot be shared": ({"llama.attention.head_count_kv": 3}, "does not divide the 2 heads"),
    "heads as words": (
        {"llama.attention.head_count": text_key("llama.attention.head_count", "two")},
        "is 'two', but must be one whole number",
    ),
    "heads by layer": (
        {"llama.attention.head_count_kv": array_key("llama.attention.head_count_kv", 4, 2, bytes(8))},
        "head_count_kv is [0, 0]",
    ),
    "values of another size": ({"llama.attention.value_length": 4}, "differs from the key length 8"),
    "partial rotation": ({"llama.rope.dimension_count": 4}, "partial rotation"),
    "epsilon of 0": ({"llama.attention.layer_norm_rms_epsilon": 0.0}, "must be a positive number"),
    "epsilon of infinity": (
        {"llama.attention.layer_norm_rms_epsilon": math.inf},
        "must be a positive number",
    ),
    "base that is no number": ({"llama.rope.freq_base": math.nan}, "must be a positive number"),
    "longrope": (
        {"llama.rope.scaling.type": text_key("llama.rope.scaling.type", "longrope")},
        "'longrope', which is not supported; supported are none, linear, yarn",
    ),
    "pattern of another length": (
        {
            "llama.attention.sliding_window_pattern": array_key(
                "llama.attention.sliding_window_pattern", BOOL, 3, bytes(3)
            )
        },
        "must be flags for 1 layers, and has 3 values",
    ),
    "pattern as a number": ({"llama.attention.sliding_window_pattern": 0.5}, "sliding_window_pattern is 0.5"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, refused, case: str):
    settings, word = WRONG[case]
    path = tmp_path / "model.gguf"
    path.write_bytes(small_llama(settings=settings))
    refused(path, str(path), word)


@pytest.mark.parametrize("factors", [(8,), (4,)], ids=["wrong size", "zeros"])
def test_rope_factors_must_be_usable(tmp_path: Path, refused, factors: tuple[int, ...]):
    path = tmp_path / "model.gguf"
    path.write_bytes(small_llama(shapes={"rope_freqs.weight": factors}))
    refused(path, "rope_freqs.weight of 4 positive F32 numbers")


def test_a_factor_of_attention_is_for_layers_with_a_window_too(tmp_path: Path):
    def more(writer: gguf.GGUFWriter) -> None:
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(4.0)
        writer.add_rope_scaling_attn_factors(1.5)

    tiny_gguf("gemma3", tmp_path / "m.gguf", more=more)
    with open_checkpoint(tmp_path / "m.gguf") as checkpoint:
        config = checkpoint.config
    whole = 1.5 * rope.yarn_attention_factor(4.0)
    assert config.rope_scales == pytest.approx([1.5 if window else whole for window in config.windows])
    assert config.rope_frequencies[0] == rope.plain(10_000.0, config.head_dim)


def test_yarn_reads_how_often_pairs_turn(tmp_path: Path):
    def frequencies(name: str, **keys: float) -> tuple[float, ...]:
        yarn = {"llama.rope.scaling.type": text_key("llama.rope.scaling.type", "yarn")}
        scaling = {f"llama.rope.scaling.{key}": value for key, value in keys.items()}
        config = config_of(tmp_path / name, settings={**yarn, "llama.rope.scaling.factor": 4.0, **scaling})
        assert config.rope_scales == pytest.approx([rope.yarn_attention_factor(4.0)])
        return config.rope_frequencies[0]

    plain = rope.plain(10_000.0, 8)
    # The trained context is the original one where no other is stated, 32 turns and 1 the limits.
    assert frequencies("a") == rope.yarn(plain, 4.0, 64, base=10_000.0)
    assert frequencies("b", original_context_length=4096) == rope.yarn(plain, 4.0, 4096, base=10_000.0)
    for beta, value in (("beta_fast", 200.0), ("beta_slow", 0.01)):
        expected = rope.yarn(plain, 4.0, 4096, base=10_000.0, **{beta: value})
        assert frequencies("c", original_context_length=4096, **{f"yarn_{beta}": value}) == expected
        assert expected != frequencies("b", original_context_length=4096)
