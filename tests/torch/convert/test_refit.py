"""Least squares of the down matrices against the dense layers."""

import copy

import pytest
import torch
from builders import tiny_model

from shortlist.torch.convert import METHODS, ConvertOptions
from shortlist.torch.convert.refit import active_neurons, refit
from shortlist.torch.convert.walk import Walk
from shortlist.torch.converted import GateConfig, MoEConfig, install
from shortlist.torch.train.not_finite import NotFiniteError


@pytest.mark.parametrize("shared", [0, 32])
def test_active_neurons_times_down_are_the_output(dense, one_domain, shared):
    gate = GateConfig("norm_threshold", tau=0.9, width=8)
    install(dense, MoEConfig("test", 3, 32, shared, gate, ternary=False, layers=(0, 1)))
    step = next(iter(Walk(dense, one_domain.ids)))
    neurons = active_neurons(step.block, step.x, step.weights)
    down = step.block.experts.down_proj.transpose(1, 2).flatten(0, 1)
    if shared:
        down = torch.cat([step.block.shared_expert.down_proj.weight.T, down])
    torch.testing.assert_close(neurons @ down, step.y, rtol=1e-4, atol=1e-4)


def test_a_walk_ends_with_what_the_model_computes(dense, one_domain):
    walk = Walk(dense, one_domain.ids)
    assert [step.index for step in walk] == [0, 1]
    with torch.no_grad():
        expected = dense.model(one_domain.ids).last_hidden_state
        torch.testing.assert_close(dense.model.norm(walk.hidden), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["gemma3", "qwen3"])
def test_other_families_come_nearer_too(family, one_domain):
    dense = tiny_model(family, num_hidden_layers=2)
    model = copy.deepcopy(dense)
    result = METHODS["cluster"]().convert(model, one_domain, ConvertOptions(experts=3), lambda *_: None)
    assert result.config.layers == (0, 1)

    def distance():
        with torch.no_grad():
            ours, theirs = (m.model(one_domain.ids).last_hidden_state for m in (model, dense))
        return float((ours - theirs).norm())

    far = distance()
    refit(model, dense, one_domain.ids)
    assert distance() < 0.9 * far


def test_the_last_states_come_nearer_and_a_stop_is_heard(dense, one_domain):
    model = copy.deepcopy(dense)
    METHODS["cluster"]().convert(model, one_domain, ConvertOptions(experts=6), lambda *_: None)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}

    def distance():
        with torch.no_grad():
            ours, theirs = (m.model(one_domain.ids).last_hidden_state for m in (model, dense))
        return float((ours - theirs).norm())

    far = distance()
    refit(model, dense, one_domain.ids, stop=lambda: True)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    refit(model, dense, one_domain.ids)
    assert distance() < 0.7 * far
    changed = [name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])]
    assert changed == [f"model.layers.{i}.mlp.experts.down_proj" for i in range(2)]


def test_a_fit_that_is_not_finite_names_its_layer(dense, one_domain):
    model = copy.deepcopy(dense)
    METHODS["cluster"]().convert(model, one_domain, ConvertOptions(experts=6), lambda *_: None)
    experts = model.model.layers[1].mlp.experts
    with torch.no_grad():
        experts.gate_up_proj[:, :, 0] = float("inf")
    before = experts.down_proj.clone()
    with pytest.raises(NotFiniteError, match="layer 1: the least-squares fit is not finite"):
        refit(model, dense, one_domain.ids)
    torch.testing.assert_close(experts.down_proj, before, rtol=0, atol=0)


def test_neurons_that_are_all_silent_change_nothing(dense, one_domain):
    model = copy.deepcopy(dense)
    METHODS["cluster"]().convert(model, one_domain, ConvertOptions(experts=6), lambda *_: None)
    experts = model.model.layers[0].mlp.experts
    torch.nn.init.zeros_(experts.gate_up_proj)
    before = experts.down_proj.clone()
    refit(model, dense, one_domain.ids)
    torch.testing.assert_close(experts.down_proj, before, rtol=0, atol=0)
