"""The layer against its definition: all experts compute all tokens."""

import copy
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

from shortlist.errors import UsageError
from shortlist.torch import Experts, MoE, SoftmaxTopK, after_step, auxiliary_losses, set_progress
from shortlist.torch.gates import GATES, Hash


def layer(experts=4, k=2, width=8, hidden=12, activation="silu", gated=True, **rest) -> MoE:
    torch.manual_seed(0)
    return MoE(SoftmaxTopK(width, experts, k), Experts(experts, width, hidden, activation, gated), **rest)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("activation", ["gelu", "gelu_pytorch_tanh", "relu", "relu2", "silu"])
def test_layer_is_the_dense_loop(activation, gated):
    moe = layer(activation=activation, gated=gated)
    x = torch.randn(3, 5, 8)
    torch.testing.assert_close(moe(x), moe.reference(x))


def test_shared_expert_is_added():
    shared = nn.Linear(8, 8)
    moe, plain = layer(shared=shared), layer()
    x = torch.randn(6, 8)
    torch.testing.assert_close(moe(x), plain(x) + shared(x))


def test_a_gate_for_another_number_of_experts_is_refused():
    with pytest.raises(UsageError, match="among 3 experts, and there are 4"):
        MoE(SoftmaxTopK(8, 3), Experts(4, 8, 12))


def test_no_tokens():
    assert layer()(torch.zeros(0, 8)).shape == (0, 8)


def test_losses_progress_and_steps_reach_all_gates():
    class Recorder(SoftmaxTopK):
        steps = 0

        def select(self, scores):
            routing = super().select(scores)
            return replace(routing, losses={"z": scores.square().mean()})

        def after_step(self):
            self.steps += 1

    layers = [MoE(Recorder(8, 4), Experts(4, 8, 12)) for _ in range(2)]
    model = nn.Sequential(*layers)
    assert auxiliary_losses(model) == {}
    model(torch.randn(5, 8))
    total = layers[0].routing.losses["z"] + layers[1].routing.losses["z"]
    torch.testing.assert_close(auxiliary_losses(model)["z"], total)
    set_progress(model, 0.5)
    after_step(model)
    assert [(m.gate.progress, m.gate.steps) for m in layers] == [(0.5, 1)] * 2


def test_a_layer_can_be_copied_after_a_forward_pass():
    moe = layer()
    moe(torch.randn(5, 8))
    assert copy.deepcopy(moe).routing is None
    assert moe.routing is not None


def test_padding_is_computed_by_no_expert_and_by_the_shared_one():
    shared = nn.Linear(8, 8)
    moe, x = layer(shared=shared), torch.randn(2, 5, 8)
    mask = torch.tensor([[0, 1, 1, 0, 1], [1, 1, 1, 1, 1]])
    y = moe(x, mask=mask)
    torch.testing.assert_close(y, moe.reference(x, mask=mask))
    torch.testing.assert_close(y[mask == 0], shared(x[mask == 0]))
    assert moe.routing.load.sum() == 16
    assert moe.routing.padded == 2
    assert moe.routing.active == 2
    torch.testing.assert_close(y[mask == 1], moe(x[mask == 1]))
    assert not layer()(x, mask=torch.zeros(2, 5)).any()


def test_ids_and_mask_go_together():
    moe = MoE(Hash(8, 4), Experts(4, 8, 12))
    x, ids = torch.randn(4, 8), torch.tensor([5, 6, 7, 8])
    y = moe(x, ids, torch.tensor([True, False, True, True]))
    torch.testing.assert_close(y[2:], moe(x, ids)[2:])


def test_a_mask_of_another_number_of_tokens_is_refused():
    with pytest.raises(UsageError, match="the mask is of 4 tokens, and the layer got 5 states"):
        layer()(torch.randn(5, 8), mask=torch.ones(4))


@pytest.mark.parametrize(
    ("grad", "training", "frozen", "gate", "warned"),
    [
        (False, True, False, "softmax", True),
        (True, True, False, "softmax", False),
        (False, False, False, "softmax", False),
        (False, True, True, "softmax", False),
        (False, True, False, "sigmoid", False),
    ],
)
def test_losses_that_teach_nothing_are_told(grad, training, frozen, gate, warned):
    moe = MoE(GATES[gate](16, 4), Experts(4, 16, 24)).train(training)
    moe.gate.requires_grad_(not frozen)
    assert auxiliary_losses(moe) == {}
    with torch.set_grad_enabled(grad):
        moe(torch.randn(5, 16))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        losses = auxiliary_losses(moe)
        with torch.no_grad():
            auxiliary_losses(moe)
    assert losses.keys() == moe.gate.gives
    assert [str(w.message).partition(":")[0] for w in said] == ["auxiliary losses without gradients"] * warned
