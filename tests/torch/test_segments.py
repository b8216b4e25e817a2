"""The fused feed-forward against the definition, forward and backward."""

import pytest
import torch
from dense_loop import Fixed, assert_is_dense_loop, experts_of, gradients, mask_of
from hypothesis import given, settings
from hypothesis import strategies as st

from shortlist.torch import Experts, MoE, Routing
from shortlist.torch.activations import ACTIVATIONS
from shortlist.torch.dispatchers import LocalDispatcher, Segments
from shortlist.torch.expert_ffn import expert_ffn


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([0, 1, 2, 15, 16, 17, 47, 48, 49]), min_size=1, max_size=4),
    st.booleans(),
    st.sampled_from(sorted(ACTIVATIONS)),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_any_load_is_the_dense_loop(load, equal, activation, gated, random):
    torch.manual_seed(random.randrange(2**31))
    sizes = [5] * len(load) if equal else list(range(3, 3 + len(load)))
    moe = MoE(Fixed(6, mask_of(load)), experts_of(sizes, activation, gated)).double()
    assert_is_dense_loop(moe, torch.randn(max(load), 6, dtype=torch.float64))


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    experts = Experts(3, 4, 5).double()
    rows, load = torch.tensor([0, 2, 1, 2]), torch.tensor([2, 0, 2])
    x, weights = torch.randn(3, 4, dtype=torch.float64), torch.rand(4, dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (x, weights)]
    assert torch.autograd.gradcheck(
        lambda x, w, *m: expert_ffn(Segments(x, rows, w, load), m, "silu", True),
        (*inputs, *experts.matrices()),
    )


def test_frozen_weights_get_no_gradient():
    moe = MoE(Fixed(6, torch.ones(4, 2, dtype=torch.bool)), Experts(2, 6, 5)).double()
    moe.experts.down_proj.requires_grad_(False)
    moe(torch.randn(4, 6, dtype=torch.float64)).sum().backward()
    assert moe.experts.down_proj.grad is None
    assert (moe.experts.gate_up_proj.grad != 0).any()


@pytest.mark.parametrize("cast", ["autocast", "bfloat16"])
def test_half_precision_is_near(cast):
    torch.manual_seed(0)
    moe = MoE(Fixed(16, torch.rand(40, 4) < 0.6), Experts(4, 16, 24))
    x = torch.randn(40, 16)
    exact = gradients(moe, x, moe)
    if cast == "autocast":

        def function(x):
            with torch.autocast("cpu", torch.bfloat16):
                return moe(x)

        found = gradients(moe, x, function)
        assert found["gate.weights"].dtype == torch.float64
        assert found["experts.down_proj"].dtype == torch.float32
    else:
        moe.bfloat16()
        found = gradients(moe, x.bfloat16(), moe)
    assert found["y"].dtype == torch.bfloat16
    for name, value in exact.items():
        error = (found[name].float() - value.float()).norm() / value.float().norm()
        assert error < 0.02, name


def test_pairs_are_sorted_by_expert():
    mask = torch.tensor([[1, 0, 1], [0, 0, 1], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)
    weights = torch.arange(12.0).view(4, 3)
    segments = LocalDispatcher().dispatch(torch.zeros(4, 2), Routing.of_mask(weights, mask))
    assert segments.rows.tolist() == [0, 2, 0, 1]
    assert segments.weights.tolist() == [0, 6, 2, 5]
    assert segments.load.tolist() == [2, 0, 2]
