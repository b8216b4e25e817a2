import pytest
import torch

from shortlist.errors import UsageError
from shortlist.torch import Experts, UnequalExperts


def test_parameters_are_laid_out_as_in_transformers():
    shapes = {name: tuple(p.shape) for name, p in Experts(4, 8, 12).named_parameters()}
    assert shapes == {"gate_up_proj": (4, 24, 8), "down_proj": (4, 8, 12)}
    shapes = {name: tuple(p.shape) for name, p in Experts(4, 8, 12, gated=False).named_parameters()}
    assert shapes == {"up_proj": (4, 12, 8), "down_proj": (4, 8, 12)}


def test_experts_of_unequal_size():
    experts = UnequalExperts(8, [3, 5])
    assert [tuple(p.shape) for p in experts.up_proj] == [(6, 8), (10, 8)]
    x = torch.randn(4, 8)
    gate, up = (x @ experts.up_proj[1].T).chunk(2, dim=1)
    expected = (torch.nn.functional.silu(gate) * up) @ experts.down_proj[1].T
    torch.testing.assert_close(experts.one(x, 1), expected)


def test_an_unknown_activation_is_refused():
    with pytest.raises(UsageError, match="unknown activation 'swish': choose one of gelu, "):
        Experts(2, 4, 4, activation="swish")
