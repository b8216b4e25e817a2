"""Dispatchers against the layer by its definition, alone and on two processes that share out the experts."""

import copy

import pytest
import torch
from two_processes import run_two

from shortlist.errors import UsageError
from shortlist.torch import DISPATCHERS, AllGatherDispatcher, Experts, MoE, SoftmaxTopK

WIDTH, HIDDEN, EXPERTS, K = 8, 12, 4, 2


def whole_layer() -> MoE:
    torch.manual_seed(0)
    return MoE(SoftmaxTopK(WIDTH, EXPERTS, k=K), Experts(EXPERTS, WIDTH, HIDDEN))


def layer_of(rank: int) -> MoE:
    """The same layer, of which this process holds half of the experts."""
    whole = whole_layer()
    half = EXPERTS // 2
    experts = Experts(half, WIDTH, HIDDEN)
    with torch.no_grad():
        for mine, all_ in zip(experts.matrices(), whole.experts.matrices(), strict=True):
            mine.copy_(all_[rank * half : (rank + 1) * half])
    return MoE(copy.deepcopy(whole.gate), experts, dispatcher="all_gather")


def states(tokens: int, seed: int) -> torch.Tensor:
    return torch.randn(tokens, WIDTH, generator=torch.Generator().manual_seed(seed))


def weighted_sum(y: torch.Tensor) -> torch.Tensor:
    return (y * torch.arange(1.0, y.numel() + 1).view_as(y)).sum()


@pytest.mark.parametrize("name", sorted(DISPATCHERS))
def test_one_process_computes_the_definition(name):
    layer = MoE(SoftmaxTopK(WIDTH, EXPERTS, k=K), Experts(EXPERTS, WIDTH, HIDDEN), dispatcher=name)
    x = states(7, 1).requires_grad_()
    weighted_sum(layer(x)).backward()
    got, x.grad = x.grad, None
    torch.testing.assert_close(layer(x), layer.reference(x))
    weighted_sum(layer.reference(x)).backward()
    torch.testing.assert_close(got, x.grad)


def compare_with_one_process(tokens: tuple[int, int], rank: int) -> None:
    whole, layer = whole_layer(), layer_of(rank)
    everything = [states(n, seed).requires_grad_() for seed, n in enumerate(tokens)]
    expected = [whole(x) for x in everything]
    sum(weighted_sum(y) for y in expected).backward()
    x = states(tokens[rank], rank).requires_grad_()
    y = layer(x)
    torch.testing.assert_close(y, expected[rank])
    weighted_sum(y).backward()
    torch.testing.assert_close(x.grad, everything[rank].grad)
    half = slice(rank * EXPERTS // 2, (rank + 1) * EXPERTS // 2)
    for mine, all_ in zip(layer.experts.parameters(), whole.experts.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, all_.grad[half])


def share_out(rank: int) -> None:
    for tokens in ((3, 5), (4, 0), (1, 1)):
        compare_with_one_process(tokens, rank)
    with pytest.raises(UsageError, match="5 experts cannot be shared out evenly among 2 processes"):
        AllGatherDispatcher().held(5)
    with pytest.raises(UsageError, match="4 experts, 2 of them here, and there are 4"):
        MoE(SoftmaxTopK(WIDTH, 4, k=1), Experts(4, WIDTH, HIDDEN), dispatcher="all_gather")
    with pytest.raises(UsageError, match="needs all experts in one process"):
        layer_of(rank).reference(states(1, 0))


def test_two_processes_hold_half_of_the_experts_each():
    run_two(share_out)


def test_an_unknown_dispatcher_is_refused_by_name():
    with pytest.raises(UsageError, match=r"no dispatcher is named 'all_gathr'; .*did you mean all_gather\?"):
        MoE(SoftmaxTopK(WIDTH, 2, k=1), Experts(2, WIDTH, HIDDEN), dispatcher="all_gathr")


def test_a_layer_can_be_copied_with_its_dispatcher():
    layer = MoE(SoftmaxTopK(WIDTH, 2, k=1), Experts(2, WIDTH, HIDDEN), dispatcher="all_gather")
    assert copy.deepcopy(layer).dispatcher is layer.dispatcher
