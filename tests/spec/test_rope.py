"""Frequencies against those that `transformers` computes."""

from typing import Any

import numpy as np
import pytest

from shortlist.spec import rope

HEAD_DIM = 64
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def theirs(**parameters: Any) -> np.ndarray:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = LlamaConfig(hidden_size=HEAD_DIM, num_attention_heads=1, rope_parameters=parameters)
    return LlamaRotaryEmbedding(config).inv_freq.numpy()


@pytest.mark.parametrize("base", [10_000.0, 1_000_000.0])
def test_plain_and_linear(base: float):
    plain = rope.plain(base, HEAD_DIM)
    np.testing.assert_allclose(plain, theirs(rope_type="default", rope_theta=base), rtol=1e-6)
    scaled = rope.linear(plain, 4.0)
    np.testing.assert_allclose(scaled, theirs(rope_type="linear", rope_theta=base, factor=4.0), rtol=1e-6)


def test_llama3():
    ours = rope.llama3(rope.plain(500_000.0, HEAD_DIM), 8.0, 1.0, 4.0, 8192)
    np.testing.assert_allclose(ours, theirs(rope_type="llama3", rope_theta=500_000.0, **LLAMA3), rtol=1e-6)


def test_llama3_is_reached_by_dividing_too():
    plain = rope.plain(500_000.0, HEAD_DIM)
    scaled = rope.llama3(plain, 8.0, 1.0, 4.0, 8192)
    factors = np.asarray(plain) / np.asarray(scaled)
    np.testing.assert_allclose(rope.divided(plain, factors), scaled, rtol=1e-12)
    assert factors.min() == 1.0
    assert factors.max() == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("original", "extra"),
    [
        (8192, {}),
        (131_072, {}),  # the passage ends beyond the last pair
        (64, {}),  # and begins before the first
        (8192, {"beta_fast": 4.0, "beta_slow": 2.0, "truncate": False}),
    ],
)
def test_yarn(original: int, extra: dict[str, Any]):
    stated = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": original}
    expected = theirs(**stated, rope_theta=10_000.0, **extra)
    ours = rope.yarn(rope.plain(10_000.0, HEAD_DIM), 4.0, original, base=10_000.0, **extra)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_the_attention_factor_of_yarn():
    assert rope.yarn_attention_factor(4.0) == pytest.approx(0.1 * np.log(4) + 1)
    assert rope.yarn_attention_factor(4.0, 0.5) == pytest.approx(0.1 * np.log(4) + 1)
    both = (0.05 * np.log(4) + 1) / (0.2 * np.log(4) + 1)
    assert rope.yarn_attention_factor(4.0, 0.5, 2.0) == pytest.approx(both)
    assert rope.yarn_attention_factor(1.0) == rope.yarn_attention_factor(0.5) == 1.0
