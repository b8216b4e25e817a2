"""Sites of a checkpoint: which there are, their tables and bytes, what fits them."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from builders import tiny_gguf, tiny_hf

from shortlist import _native
from shortlist.checkpoints import open_checkpoint
from shortlist.checkpoints.base import TYPES, StoredTensor
from shortlist.checkpoints.packing import unpacked
from shortlist.errors import UsageError
from shortlist.estimators import Exact, Int4Copy, Magnitude
from shortlist.model.decoder import Decoder
from shortlist.selectors import StatisticalTopK, Threshold, TopK
from shortlist.sites.base import SITES, site_class, sites_of, split_name
from shortlist.sites.channels import ChannelSite
from shortlist.sites.experts import ExpertSite
from shortlist.sites.neurons import FIRES, SIGMA, NeuronSite, neuron_parts, neuron_ways


@pytest.fixture
def open_tiny(tmp_path):
    """Opens a tiny model of a family; a config that is given takes the place of some of its own."""
    opened = []

    def make(family, kind="Q8_0", config=None, **settings):
        path = tmp_path / f"{family}-{len(opened)}.gguf"
        tiny_gguf(family, path, kind, **settings)
        opened.append(open_checkpoint(path))
        if config:
            opened[-1].config = dataclasses.replace(opened[-1].config, **config)
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def names(checkpoint):
    return {kind: [site.name for site in sites_of(checkpoint, kind)] for kind in SITES}


def test_names_say_layer_and_kind():
    assert split_name("head") == (None, "head")
    assert split_name("layers.13.gate_up") == (13, "gate_up")
    assert site_class("layers.13.gate_up") is ChannelSite


def test_the_sites_of_models(open_tiny):
    layers = {kind: [f"layers.0.{kind}", f"layers.1.{kind}"] for kind in ("qkv", "o", "gate_up", "down")}
    assert names(open_tiny("llama")) == {"head": ["head"], "neurons": [], "experts": [], **layers}
    arcee = names(open_tiny("arcee"))
    assert arcee["neurons"] == ["layers.0.neurons", "layers.1.neurons"]
    experts = names(open_tiny("qwen3_moe"))
    assert experts["experts"] == ["layers.0.experts", "layers.1.experts"]
    assert (experts["neurons"], experts["gate_up"], experts["down"]) == ([], [], [])
    assert experts["qkv"] == layers["qkv"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("layers.0.neurons", "exact zeros come from the activation, and silu has none"),
        ("layers.2.neurons", "it has 2 layers"),
        ("layers.2.qkv", "layer 2 has no q or k or v"),
        ("layers.0.experts", "layer 0 has no router of its own"),
    ],
)
def test_a_site_that_is_not_there_says_why(open_tiny, name, reason):
    with pytest.raises(UsageError, match=f"there is no site {name} in this model, because {reason}"):
        site_class(name)(name, open_tiny("llama"))


@pytest.mark.parametrize("type", [name for name, kind in TYPES.items() if name != "TERNARY"])
def test_types_that_native_channels_refuse_have_no_sites(type):
    """A site is there exactly where the native constructor takes its matrices."""
    kind, rows, cols = TYPES[type], 4, 256
    data = np.zeros(rows * cols // kind.weights * kind.bytes, np.uint8)
    tensors = {"layers.0.o": StoredTensor("o", type, (rows, cols), data)}
    checkpoint: Any = SimpleNamespace(tensors=tensors)
    reason = ChannelSite.missing(checkpoint, 0, "o")
    packed = _native.Rows.pack(data, type, rows, cols)
    if reason is None:
        assert _native.Channels(packed).inputs == cols
        return
    assert reason == f"matrices of type {type} are not stored by input channel"
    with pytest.raises(ValueError, match="not stored by input channel"):
        _native.Channels(packed)


@pytest.mark.parametrize(
    ("activation", "cutoffs", "biases", "ways", "layers"),
    [
        ("silu", (), (), (), []),
        ("silu", (None, None), (), (), []),
        ("gelu_tanh", (1.5, None), (), ("exact",), [0]),
        ("relu", (), (), ("exact", "estimated"), [0, 1]),
        ("relu2", (), (), ("exact", "estimated"), [0, 1]),
        ("relu", (), ("q_bias",), ("exact", "estimated"), [0, 1]),  # not of these layers
        ("relu", (), ("q_bias", "up_bias"), (), []),
        ("gelu_tanh", (1.5, None), ("down_bias",), (), []),
    ],
)
def test_which_layers_can_leave_out_neurons(open_tiny, activation, cutoffs, biases, ways, layers):
    config = {"activation": activation, "ffn_cutoffs": cutoffs, "biases": biases}
    checkpoint = open_tiny("llama", config=config)
    assert neuron_ways(checkpoint) == ways
    assert [site.layer for site in sites_of(checkpoint, "neurons")] == layers


def test_tables_units_and_bytes(open_tiny):
    checkpoint = open_tiny("llama", "F32")
    weights = {
        name: np.asarray(tensor.data).view(np.float32).reshape(tensor.shape)
        for name, tensor in checkpoint.tensors.items()
        if len(tensor.shape) == 2
    }
    site = ChannelSite("layers.1.gate_up", checkpoint)
    gate, up = weights["layers.1.gate"], weights["layers.1.up"]
    np.testing.assert_array_equal(site.table(), np.concatenate([gate, up]).T)
    assert (site.units, site.width) == (64, 2 * 96)
    assert site.nbytes() == gate.nbytes + up.nbytes
    assert site.unit_bytes() == site.nbytes() / 64
    query, indices = np.arange(64, dtype=np.float32), np.array([3, 5])
    expected = np.concatenate([3 * w[:, 3] + 5 * w[:, 5] for w in (gate, up)])
    np.testing.assert_allclose(site.product(query, indices), expected, rtol=1e-5)
    assert site.nbytes("q8") < site.nbytes() / 3

    neurons = NeuronSite("layers.0.neurons", open_tiny("arcee"))
    assert neurons.tensors == ["layers.0.up", "layers.0.down"]
    assert neurons.units == 96
    rows = unpacked(neurons.table())
    ones = np.ones(64, np.float32)
    np.testing.assert_allclose(neurons.product(ones, indices), rows[indices].sum(1), rtol=1e-5)


def test_experts_are_those_that_the_file_says(open_tiny):
    checkpoint = open_tiny("qwen3_moe")
    count = checkpoint.config.mixture.per_token
    site = ExpertSite("layers.1.experts", checkpoint)
    assert (site.units, site.width) == (checkpoint.config.mixture.experts, 64)
    assert len(site.tensors) == 3 * site.units
    assert unpacked(site.table()).shape == (site.units, site.width)
    parts = {site.name: site.part(Exact(), TopK(count))}
    tokens = np.arange(1, 9, dtype=np.int32)
    plain, named = Decoder(checkpoint, threads=1), Decoder(checkpoint, parts=parts, threads=1)
    both = [each.forward(tokens, each.new_cache(8)) for each in (plain, named)]
    np.testing.assert_array_equal(*both)
    with pytest.raises(UsageError, match=f"file says {count} experts for each token, not {count + 1}"):
        Decoder(checkpoint, parts={site.name: site.part(Exact(), TopK(count + 1))})


def test_a_part_of_another_model_is_refused(open_tiny):
    site = ChannelSite("layers.0.o", open_tiny("llama"))
    other = dataclasses.replace(site.part(Magnitude(False), Threshold(0.5)), units=60)
    with pytest.raises(UsageError, match="has 60 units of width 64 where the model has 64 of 64: fit it"):
        site.check(other)


def test_ffn_is_short_for_parts_of_all_neurons(open_tiny):
    arcee = open_tiny("arcee")
    exact, estimated = (neuron_parts(arcee, ffn, {}) for ffn in ("exact", "estimated"))
    assert exact.keys() == estimated.keys() == {"layers.0.neurons", "layers.1.neurons"}
    assert {(part.estimator, part.selector) for part in exact.values()} == {(Exact(), Threshold(FIRES))}
    assert {(p.estimator, p.selector) for p in estimated.values()} == {(Int4Copy(), Threshold(FIRES, SIGMA))}
    assert neuron_parts(arcee, "dense", exact) == {}
    assert neuron_parts(arcee, "auto", {}) == {}, "the down projection would be rounded again"
    assert neuron_parts(arcee, "auto", exact) == exact
    half = {"layers.0.neurons": exact["layers.0.neurons"], "layers.1.neurons": None}
    assert neuron_parts(arcee, "auto", half).keys() == {"layers.0.neurons"}
    assert neuron_parts(open_tiny("arcee", "F16"), "auto", {}).keys() == exact.keys()


def test_layers_may_differ_in_what_is_done_at_their_neurons(tmp_path):
    tiny_hf("llama", tmp_path, hidden_act="relu", intermediate_size=500)
    with open_checkpoint(tmp_path) as checkpoint:
        exact, estimated = (neuron_parts(checkpoint, ffn, {}) for ffn in ("exact", "estimated"))
        mixed = {
            "layers.0.neurons": exact["layers.0.neurons"],
            "layers.1.neurons": estimated["layers.1.neurons"],
        }
        one = {"layers.0.neurons": None, "layers.1.neurons": exact["layers.1.neurons"]}
        decoders = [
            Decoder(checkpoint, parts=parts, weights="q8", threads=1) for parts in (exact, mixed, one)
        ]
    assert [decoder.ffn for decoder in decoders] == ["exact", "estimated", "exact"]
    assert [decoder.listable_neurons for decoder in decoders] == [1000, 1000, 500]
    tokens = np.arange(1, 30, dtype=np.int32)
    outputs = [each.forward(tokens, each.new_cache(32)) for each in decoders]
    largest = np.abs(outputs[0]).max()
    np.testing.assert_allclose(outputs[1], outputs[0], atol=1e-4 * largest)
    np.testing.assert_allclose(outputs[2], outputs[0], atol=0.05 * largest)  # down has scales along inputs
    read = [decoder.neurons_read for decoder in decoders]
    assert read[2] < 0.7 * read[0] < read[1]


def test_a_cutoff_is_that_of_the_file(open_tiny):
    checkpoint = open_tiny("llama", config={"activation": "gelu_tanh", "ffn_cutoffs": (1.5, None)})
    site = NeuronSite("layers.0.neurons", checkpoint)
    part = site.exact()
    assert isinstance(part.selector, StatisticalTopK)
    assert part.selector.keep == pytest.approx(0.0668, abs=1e-4)  # above 1.5 deviations
    assert site.estimated() is None
    site.check(part)
    for other in (site.part(Exact(), Threshold(FIRES)), site.part(Exact(), StatisticalTopK(0.07))):
        with pytest.raises(UsageError, match="its cutoff is that of all gates"):
            site.check(other)
    relu = NeuronSite("layers.0.neurons", open_tiny("llama", config={"activation": "relu"}))
    with pytest.raises(UsageError, match="no cutoff: choose threshold"):
        relu.check(relu.part(Exact(), StatisticalTopK(0.07)))


@pytest.mark.parametrize(
    ("kind", "estimator", "selector", "how"),
    [
        ("qkv", Magnitude(False), Threshold(0.3), "natively"),
        ("neurons", Exact(), Threshold(FIRES), "natively"),
        ("neurons", Int4Copy(), Threshold(FIRES, sigma=3.0), "natively"),
        ("neurons", Int4Copy(), Threshold(0.5, sigma=3.0), "refused"),
        ("experts", Exact(), TopK(2), "natively"),
        ("experts", Int4Copy(), TopK(2), "refused"),
        ("o", Exact(), Threshold(0.3), "refused"),
    ],
)
def test_what_runs_at_the_sites_of_layers(kind, estimator, selector, how):
    found = SITES[kind].reach(estimator, selector)
    assert found.how == how
    assert (found.reason is None) == (how != "refused")
    assert SITES[kind].refusal(estimator, selector) == found.reason


def test_a_sigma_that_the_estimator_cannot_give_is_refused():
    reason = SITES["qkv"].refusal(Magnitude(False), Threshold(0.3, sigma=1.0))
    assert reason is not None
    assert "needs a confidence, which magnitude does not give" in reason
