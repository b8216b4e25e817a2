"""Tests of every conversion method."""

import copy
import dataclasses

import pytest
import torch

from shortlist.errors import UsageError
from shortlist.torch import moe_layers
from shortlist.torch.convert import METHODS, ConvertOptions, TernaryExperts, upcycle
from shortlist.torch.convert.heal import Budget
from shortlist.torch.convert.measure import measure
from shortlist.torch.convert.pipeline import heal

LEAVES_OUT = ("read-me", "cluster")


def silent(stage, share):
    assert 0 <= share <= 1


def converted(name, dense, text, **options):
    model = copy.deepcopy(dense)
    return METHODS[name]().convert(model, text, ConvertOptions(experts=2, **options), silent)


def distance(model, dense, ids):
    with torch.no_grad():
        a, b = (m(ids).logits.log_softmax(-1) for m in (dense, model))
    return float((a.exp() * (a - b)).sum(-1).mean())


@pytest.mark.parametrize("name", METHODS)
def test_what_is_described_is_there(name, dense, one_domain):
    result = converted(name, dense, one_domain)
    layers = list(moe_layers(result.model))
    assert len(layers) == len(result.config.layers)
    for layer in layers:
        assert (layer.experts.count, layer.experts.hidden) == (2, result.config.expert_width)
        assert (layer.shared_expert is not None) == (result.config.shared_width > 0)
    assert result.config.method == name


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_model(name, dense, one_domain):
    first, again = (converted(name, dense, one_domain).model.state_dict() for _ in range(2))
    assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize("name", METHODS)
def test_only_the_layers_that_are_named_change(name, dense, one_domain):
    result = converted(name, dense, one_domain, layers=(1,))
    assert result.config.layers == (1,)
    kept = result.model.model.layers[0].mlp
    assert torch.equal(kept.up_proj.weight, dense.model.layers[0].mlp.up_proj.weight)


def test_copies_that_are_whole_predict_what_the_dense_model_does(dense, one_domain, monkeypatch):
    monkeypatch.setattr(upcycle, "MASKED", 0.0)
    model = converted("upcycle", dense, one_domain, layers=(0, 1)).model
    assert distance(model, dense, one_domain.ids) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_healing_brings_it_nearer(name, dense, one_domain):
    result = converted(name, dense, one_domain, layers=(0, 1))
    method = METHODS[name]()
    measured = [measure(result.model, one_domain.ids, result.config).perplexity]
    distances = [distance(result.model, dense, one_domain.ids)]
    healed = heal(result, dense, one_domain, method, Budget(tokens=1500))
    measured.append(measure(result.model, one_domain.ids, result.config).perplexity)
    distances.append(distance(result.model, dense, one_domain.ids))
    assert healed.tokens >= 1500
    if method.text_weight:
        assert measured[1] < measured[0], "it learns the text"
    else:
        assert distances[1] < 0.8 * distances[0], "it learns the dense model"


@pytest.mark.parametrize("name", LEAVES_OUT)
@pytest.mark.parametrize("active", [0.34, 0.67])
def test_a_token_takes_the_share_that_was_asked_for(name, dense, one_domain, active):
    result = converted(name, dense, one_domain, active=active)
    measured = measure(result.model, one_domain.ids, result.config)
    # Two experts of half of the neurons: at least one of them runs.
    least = 0.5 if name == "cluster" else 0.0
    assert measured.active_ffn == pytest.approx(max(active, least), abs=0.02)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in LEAVES_OUT])
def test_methods_that_leave_nothing_out_refuse_a_share(name, dense, one_domain):
    with pytest.raises(UsageError, match="--active"):
        converted(name, dense, one_domain, active=0.5)


@pytest.mark.parametrize("name", METHODS)
def test_layers_that_do_not_exist_are_one_clear_error(name, dense, one_domain):
    with pytest.raises(UsageError, match="layers 0 to 1"):
        converted(name, dense, one_domain, layers=(1, 2))


def test_ternary_experts_add_nothing_at_first(dense, one_domain):
    for method in (TernaryExperts(), TernaryExperts(ternary=False, expert_width=32)):
        model = copy.deepcopy(dense)
        method.convert(model, one_domain, ConvertOptions(), silent)
        with torch.no_grad():
            assert torch.equal(model(one_domain.ids).logits, dense(one_domain.ids).logits)


def test_after_healing_an_upcycled_token_takes_one_expert(dense, one_domain):
    result = converted("upcycle", dense, one_domain)
    heal(result, dense, one_domain, METHODS["upcycle"](), Budget(tokens=200))
    measured = measure(result.model, one_domain.ids, result.config)
    assert measured.active_ffn == 1.0


def test_every_domain_has_an_expert(dense, text):
    model = copy.deepcopy(dense)
    result = METHODS["read-me"]().convert(model, text, ConvertOptions(), silent)
    assert result.config.experts == 2
    assert result.notes["lost with the router's"] <= result.notes["lost with one expert for all"]
    with pytest.raises(UsageError, match="2 texts"):
        METHODS["read-me"]().convert(copy.deepcopy(dense), text, ConvertOptions(experts=3), silent)


def test_clusters_must_be_whole_groups(dense, one_domain):
    with pytest.raises(UsageError, match="choose 2, 3, 6"):
        METHODS["cluster"]().convert(dense, one_domain, ConvertOptions(experts=5), silent)


@pytest.mark.parametrize("wrong", [{"experts": 1}, {"experts": 1000}, {"active": 0.0}, {"active": 1.5}])
def test_options_out_of_range(wrong):
    with pytest.raises(UsageError):
        dataclasses.replace(ConvertOptions(), **wrong)
