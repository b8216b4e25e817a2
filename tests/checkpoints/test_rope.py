"""Frequencies against those that `transformers` computes."""

from typing import Any

import numpy as np
import pytest

from shortlist.checkpoints import rope

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
