"""The loop by itself; that it can be resumed is tested with the runs."""

import numpy as np
import pytest
from training.runs import tiny_config

from shortlist.errors import UsageError
from shortlist.training.config import MoEConfig
from shortlist.training.loop import Loop

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
