"""As many experts as have a large predicted norm."""

import math

import pytest
import torch

from shortlist.torch.gates.norm_threshold import NormThreshold


@pytest.mark.parametrize(("tau", "chosen"), [(1.0, [0]), (0.5, [0, 1]), (0.05, [0, 1, 2])])
def test_experts_within_a_factor_of_the_largest_run(tau, chosen):
    gate = NormThreshold(8, 3, tau)
    routing = gate.select(torch.tensor([[math.log(10.0), math.log(6.0), math.log(1.0)]]))
    assert routing.experts.tolist() == chosen
    assert routing.weights.tolist() == [1.0] * len(chosen)


def test_every_token_has_an_expert():
    torch.manual_seed(0)
    routing = NormThreshold(8, 4, 1.0)(torch.randn(50, 8))
    assert set(routing.tokens.tolist()) == set(range(50))


@pytest.mark.parametrize("tau", [0.0, -1.0, 1.5])
def test_a_tau_that_is_no_share_is_refused(tau):
    with pytest.raises(ValueError, match="tau must be"):
        NormThreshold(8, 4, tau)
