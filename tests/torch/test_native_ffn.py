"""The native feed-forward of experts against the definition, forward and backward."""

import copy

import pytest
import torch
from dense_loop import Fixed, assert_is_dense_loop, gradients, mask_of
from hypothesis import given, settings
from hypothesis import strategies as st

from shortlist.torch import Experts, MoE
from shortlist.torch.activations import ACTIVATIONS
from shortlist.torch.native_ffn import native_serves
from shortlist.torch.recycled import SMALL, Recycled


def layer(load: list[int], activation="silu", gated=True, width=20, hidden=37) -> MoE:
    return MoE(Fixed(width, mask_of(load)), Experts(len(load), width, hidden, activation, gated))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 8, 9, 16, 17, 33, 300]), min_size=1, max_size=4),
    st.sampled_from(sorted(ACTIVATIONS)),
    st.booleans(),
    st.integers(0, 2**31 - 1),
)
def test_any_load_is_the_dense_loop(load, activation, gated, seed):
    torch.manual_seed(seed)
    moe = layer(load, activation, gated)
    assert native_serves(torch.zeros(1, 20), *moe.experts.matrices())
    assert_is_dense_loop(moe, torch.randn(max(load), 20), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["gate_up_proj", "down_proj"])
def test_frozen_weights_get_no_gradient(name):
    moe = layer([3, 2])
    moe.experts.get_parameter(name).requires_grad_(False)
    moe(torch.randn(3, 20)).sum().backward()
    for other, parameter in moe.experts.named_parameters():
        assert (parameter.grad is None) == (other == name)


def test_gradients_of_two_passes_add_up():
    torch.manual_seed(0)
    moe, x = layer([30, 7]), torch.randn(30, 20)
    once = {name: value.clone() for name, value in gradients(moe, x, moe).items()}
    moe.zero_grad()
    for _ in range(2):
        x.grad = None
        (moe(x) * torch.linspace(-1, 1, x.numel()).view(x.shape)).sum().backward()
    torch.testing.assert_close(moe.experts.down_proj.grad, 2 * once["experts.down_proj"])


def test_a_gradient_that_is_kept_is_not_written_over():
    torch.manual_seed(0)
    moe, x = layer([30, 7]), torch.randn(30, 20)
    kept = gradients(moe, x, moe)["experts.down_proj"]
    view, values = kept[0, 3:], kept[0, 3:].clone()
    del kept
    moe.zero_grad()
    moe(-3 * x).sum().backward()
    assert torch.equal(view, values)


def test_other_types_go_elsewhere():
    moe = layer([3, 2])
    up, down = moe.experts.matrices()
    assert not native_serves(torch.zeros(1, 20).bfloat16(), up, down)
    assert not native_serves(torch.zeros(1, 20), up.double(), down)


def addresses(memory: Recycled, *shapes: tuple[int, int]) -> list[int]:
    """Tensors that exist at the same time."""
    return [tensor.data_ptr() for tensor in [memory.empty(*shape) for shape in shapes]]


def test_memory_is_used_again_once_nobody_holds_it():
    memory, shape = Recycled(2), (300, 200)
    first = memory.empty(*shape)
    view, at = first[1:], first.data_ptr()
    del first
    assert memory.empty(*shape).data_ptr() != at
    del view
    assert at in addresses(memory, shape, shape)
    assert len(set(addresses(memory, shape, shape, shape))) == 3


def test_a_smaller_tensor_takes_the_smallest_memory_that_fits():
    memory = Recycled(2)
    large, small = addresses(memory, (400, 200), (300, 200))
    assert addresses(memory, (200, 200), (400, 200)) == [small, large]


@given(st.lists(st.integers(1, 9), max_size=30), st.integers(1, 3))
def test_no_more_memory_is_kept_than_asked_for(sizes, blocks):
    memory, held = Recycled(blocks), []
    for number, size in enumerate(sizes):
        held.append(memory.empty(100 * size, SMALL // 100 + 1))
        held[-1].fill_(number)
        if size % 2:
            del held[0]
        assert len(memory._free) <= blocks
    assert all((tensor == tensor[0, 0]).all() for tensor in held)
    assert len({tensor[0, 0].item() for tensor in held}) == len(held)


def test_a_copy_of_a_layer_computes_on_its_own():
    moe = layer([3, 2])
    moe(torch.randn(3, 20)).sum().backward()
    other = copy.deepcopy(moe)
    assert_is_dense_loop(other, torch.randn(3, 20), atol=1e-4, rtol=1e-4)
