"""A configuration is a value: whoever holds one can compare it, hash it and trust that it stays as it is."""

import dataclasses

import pytest

from shortlist.models.config import ModelConfig

CONFIG = ModelConfig(
    family="llama",
    vocab_size=8,
    width=4,
    layers=1,
    heads=2,
    kv_heads=1,
    head_dim=2,
    ffn_width=6,
    norm_eps=1e-5,
    norm_offset=0.0,
    context_length=16,
    tied_head=True,
    activation="silu",
    embedding_scale=1.0,
    attention_scale=2**-0.5,
    windows=(0,),
    rope_frequencies=((1.0,),),
    rope_interleaved=False,
)


def test_equal_configurations_are_one_value():
    same = dataclasses.replace(CONFIG)
    assert same == CONFIG
    assert hash(same) == hash(CONFIG)
    assert dataclasses.replace(CONFIG, heads=1) != CONFIG


def test_it_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CONFIG.heads = 3  # type: ignore[misc]
