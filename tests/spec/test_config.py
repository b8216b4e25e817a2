"""A configuration is a value: whoever holds one can compare it, hash it and trust that it stays as it is."""

import dataclasses

import pytest

from shortlist.spec.config import MixtureConfig, ModelConfig, Streams

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

MIXTURE = MixtureConfig(layers=(1,), experts=4, width=2, per_token=2, normalize=True)


def test_equal_configurations_are_one_value():
    same = dataclasses.replace(CONFIG)
    assert same == CONFIG
    assert hash(same) == hash(CONFIG)
    assert dataclasses.replace(CONFIG, heads=1) != CONFIG


def test_it_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CONFIG.heads = 3  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        Streams(2, 0, 4, 8).active = 1  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        MIXTURE.experts = 5  # type: ignore[misc]


def test_what_layers_have_where_nothing_is_said_of_them():
    assert CONFIG.ffn_width_of(0) == 6
    assert CONFIG.ffn_cutoff_of(0) is None
    assert CONFIG.rope_of(0) == ((1.0,), 1.0)
    assert CONFIG.kv_source_of(0) == 0
    assert not CONFIG.is_mixture(0)
    assert (CONFIG.logit_cap, CONFIG.biases, CONFIG.laurel_rank) == (None, (), 0)
    assert CONFIG.streams is None


def test_what_single_layers_have():
    config = dataclasses.replace(
        CONFIG,
        layers=3,
        ffn_widths=(6, 8, 10),
        ffn_cutoffs=(1.5, None, 2.5),
        rope_frequencies=((1.0,), (2.0,), (3.0,)),
        rope_scales=(1.0, 1.25, 1.5),
        kv_sources=(0, 1, 0),
        mixture=MIXTURE,
    )
    assert [config.ffn_width_of(layer) for layer in range(3)] == [6, 8, 10]
    assert [config.ffn_cutoff_of(layer) for layer in range(3)] == [1.5, None, 2.5]
    assert [config.rope_of(layer) for layer in range(3)] == [((1.0,), 1.0), ((2.0,), 1.25), ((3.0,), 1.5)]
    assert [config.kv_source_of(layer) for layer in range(3)] == [0, 1, 0]
    assert [config.is_mixture(layer) for layer in range(3)] == [False, True, False]


def test_a_mixture_is_a_plain_one_where_nothing_else_is_said():
    mixture = MIXTURE
    assert (mixture.shared_width, mixture.router_width, mixture.router_rank, mixture.margin) == (0, 0, 0, 0)
    assert (mixture.shared_gate, mixture.ternary, mixture.prices) == (False, False, False)
