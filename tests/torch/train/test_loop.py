"""The loop by itself; that it can be resumed is tested with the runs."""

import copy

import numpy as np
import pytest
import torch
from torch_runs import tiny_config

from shortlist.errors import UsageError
from shortlist.torch import moe_layers
from shortlist.torch.train.config import GateConfig, MoEConfig
from shortlist.torch.train.loop import Loop

TOKENS = np.arange(200) % 50


def test_a_device_that_is_not_there(build, tmp_path):
    config = tiny_config(tmp_path, device="abacus")
    with pytest.raises(UsageError, match="device 'abacus' is not here"):
        Loop(config, build(), TOKENS, TOKENS)


def test_the_rate_warms_up_and_falls(build, tmp_path):
    loop = Loop(tiny_config(tmp_path, warmup=2, steps=6, schedule="linear"), build(), TOKENS, TOKENS)
    rates = [loop.step().learning_rate for _ in range(6)]
    assert rates == pytest.approx([0, 0.005, 0.01, 0.0075, 0.005, 0.0025])


def test_matrices_decay_and_norms_do_not(build, tmp_path):
    loop = Loop(tiny_config(tmp_path), build(MoEConfig(experts=2)), TOKENS, TOKENS)
    decaying, others = loop.optimizer.param_groups
    assert decaying["weight_decay"] > 0 == others["weight_decay"]
    assert {p.dim() for p in others["params"]} == {1}
    assert {p.dim() for p in decaying["params"]} == {2, 3}


def test_bfloat16_computes_less_exactly_and_keeps_float32_weights(build, tmp_path):
    losses = []
    for precision in ("float32", "bfloat16"):
        loop = Loop(tiny_config(tmp_path, precision=precision), build(MoEConfig(experts=2)), TOKENS, TOKENS)
        losses.append(loop.step().loss)
        assert {str(p.dtype) for p in loop.model.parameters()} == {"torch.float32"}
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=0.02)


def with_gate(kind, **options):
    return MoEConfig(experts=4, width=16, gate=GateConfig(kind, options=options))


def test_gates_see_the_share_of_the_steps_that_were_taken(build, tmp_path):
    loop = Loop(tiny_config(tmp_path, steps=4), build(with_gate("temperature")), TOKENS, TOKENS)
    seen = []
    for _ in range(4):
        loop.step()
        seen.append({layer.gate.progress for layer in moe_layers(loop.model)})
    assert seen == [{0.0}, {0.25}, {0.5}, {0.75}]
    assert loop.done == 4


def test_gates_adjust_after_every_step(build, tmp_path):
    loop = Loop(tiny_config(tmp_path), build(with_gate("sigmoid", rate=0.5)), TOKENS, TOKENS)
    for _ in range(2):
        before = [layer.gate.bias.clone() for layer in moe_layers(loop.model)]
        loop.step()
        for layer, bias in zip(moe_layers(loop.model), before, strict=True):
            assert (layer.gate.bias != bias).any()


def test_validation_draws_nothing_of_what_training_draws(build, tmp_path):
    losses = []
    for validated in (False, True):
        loop = Loop(tiny_config(tmp_path), build(with_gate("random")), TOKENS, TOKENS)
        torch.manual_seed(0)
        losses.append([])
        for _ in range(3):
            losses[-1].append(loop.step().loss)
            if validated:
                loop.validate()
    assert losses[0] == losses[1]


def test_validation_is_the_mean_of_all_tokens_without_their_gates_moving(build, tmp_path):
    model = build(with_gate("dual_price"))
    loop = Loop(tiny_config(tmp_path, batch=4, context=16, validation_tokens=112), model, TOKENS, TOKENS)
    measured = loop.validate()
    assert not model.training
    pieces = torch.stack([torch.as_tensor(TOKENS[16 * i : 16 * i + 17]) for i in range(7)])  # 4 and 3
    with torch.no_grad():
        logits = model(input_ids=pieces[:, :-1]).logits
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), pieces[:, 1:].flatten())
    assert measured == pytest.approx(expected.item(), rel=1e-5)
    for layer in moe_layers(model):
        assert not int(layer.gate.tally["tokens"])
    loop.step()
    assert model.training


def test_gradients_are_limited_to_the_clip_and_measured_before(build, tmp_path, monkeypatch):
    limits, clip = [], torch.nn.utils.clip_grad_norm_

    def watch(parameters, limit):
        parameters = list(parameters)
        limits.append(limit)
        found = clip(parameters, limit)
        norms = torch.stack([p.grad.norm() for p in parameters])
        assert norms.norm() <= limit * 1.001
        return found

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", watch)
    loop = Loop(tiny_config(tmp_path, clip=0.01), build(), TOKENS, TOKENS)
    assert loop.step().gradient_norm > 0.1
    assert limits == [0.01]


def test_a_step_reports_the_loss_without_the_auxiliary_ones(build, tmp_path):
    steps = []
    for weight in (0.0, 100.0):
        moe = MoEConfig(experts=4, losses={"load_balance": weight})
        torch.manual_seed(0)
        steps.append(Loop(tiny_config(tmp_path, moe), build(moe), TOKENS, TOKENS).step())
    assert steps[0].loss == steps[1].loss
    assert steps[0].losses == steps[1].losses
    assert steps[0].losses["load_balance"] == pytest.approx(2, rel=0.3)  # of two layers
    assert steps[1].gradient_norm > 2 * steps[0].gradient_norm


def test_optimizer_steps_start_without_the_gradients_of_the_last(build, tmp_path):
    loop = Loop(tiny_config(tmp_path, clip=1e9), build(), TOKENS, TOKENS)
    loop.step()
    kept = {name: p.grad.clone() for name, p in loop.model.named_parameters()}
    loop.step()
    tokens = torch.from_numpy(loop._windows.batch(1, 4))
    assert tokens.shape == (4, 17)
    assert any((p.grad != kept[name]).any() for name, p in loop.model.named_parameters())
    twin = copy.deepcopy(loop.model)
    loop.step()  # at the weights of the twin
    twin.zero_grad()
    tokens = torch.from_numpy(loop._windows.batch(2, 4))
    logits = twin(input_ids=tokens[:, :-1]).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
    for (name, p), other in zip(loop.model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, other.grad, msg=name)
