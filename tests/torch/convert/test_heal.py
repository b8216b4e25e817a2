"""Budgets of healing, and its loss."""

from time import perf_counter

import pytest
import torch

from shortlist.errors import UsageError
from shortlist.torch.convert.heal import Budget, distill, healing_loss
from shortlist.torch.train.not_finite import NotFiniteError


def test_a_budget_ends_with_what_is_used_up_first():
    assert Budget(tokens=100).used(perf_counter(), 25) == pytest.approx(0.25)
    assert Budget(minutes=1.0).used(perf_counter() - 30, 10**9) == pytest.approx(0.5, abs=0.05)
    assert Budget(minutes=1.0, tokens=100).used(perf_counter() - 30, 90) == pytest.approx(0.9, abs=0.05)
    assert Budget(tokens=100).used(perf_counter(), 1000) == 1
    assert Budget(tokens=0).used(perf_counter(), 0) == 1
    assert Budget(minutes=0).used(perf_counter(), 0) == 1


@pytest.mark.parametrize("wrong", [{}, {"minutes": -1.0}, {"minutes": float("nan")}, {"tokens": -1}])
def test_a_budget_that_is_none(wrong):
    with pytest.raises(UsageError):
        Budget(**wrong)


def test_the_dense_model_has_nothing_to_learn_from_itself(dense, one_domain):
    ids = one_domain.ids[:2]
    text = dense(ids, labels=ids).loss.item()
    for text_weight in (0.0, 0.25, 1.0):
        loss = healing_loss(dense, dense, ids, text_weight).item()
        assert loss == pytest.approx(text_weight * text, rel=1e-4, abs=1e-5)


def test_only_what_is_given_is_trained_and_a_spent_budget_trains_nothing(dense, tiny_dense, one_domain):
    weight = dense.model.layers[1].mlp.down_proj.weight
    before = {name: p.clone() for name, p in dense.state_dict().items()}
    nothing = distill(dense, tiny_dense, one_domain.ids, [weight], lambda tokens: 1.0)
    assert (nothing.tokens, nothing.losses) == (0, ())
    healed = distill(
        dense, tiny_dense, one_domain.ids, [weight], lambda tokens: min(1.0, tokens / 200), text_weight=1.0
    )
    assert healed.tokens == 256
    changed = [name for name, p in dense.state_dict().items() if not torch.equal(p, before[name])]
    assert changed == ["model.layers.1.mlp.down_proj.weight"]


def test_numbers_that_are_not_finite_end_it_and_say_where(dense, tiny_dense, one_domain):
    mlp = dense.model.layers[1].mlp

    def heal(weights, **options):
        distill(dense, tiny_dense, one_domain.ids, weights, lambda tokens: tokens / 200, **options)

    weight = mlp.down_proj.weight
    hook = weight.register_hook(lambda gradient: gradient * float("nan"))
    before = weight.clone()
    with pytest.raises(NotFiniteError, match=r"^step 1: gradients .* model\.layers\.1\.mlp\.down_proj"):
        heal([weight])
    assert torch.equal(weight, before)
    hook.remove()
    with pytest.raises(NotFiniteError, match=r"^step 2: the loss .* output of model\.layers\.1\.mlp"):
        heal([mlp.gate_proj.weight, mlp.up_proj.weight], rate=1e30)
    assert mlp.up_proj.weight.isfinite().all()
