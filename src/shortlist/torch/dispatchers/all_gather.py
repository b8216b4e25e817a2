"""Distributes experts over processes; every process receives the states of all others."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from shortlist.errors import UsageError
from shortlist.torch.dispatchers.base import Dispatcher, Segments, sorted_by_expert
from shortlist.torch.gates import Routing
from shortlist.torch.numerics import load_of
from shortlist.torch.ranks import count_of


@dataclass(frozen=True)
class Origin:
    """The source of gathered states: the number of `tokens` of each process, by rank."""

    tokens: tuple[int, ...]


class AllGatherDispatcher(Dispatcher):
    """Gathers all states in every process, computes the pairs of local experts, and sums over processes.

    This is the simplest way to hold more experts than fit in one process. Messages do not depend on the
    routing: each process receives the states of all others and takes part in one sum of the same size.

    Parameters
    ----------
    group
        The process group of `torch.distributed` over which experts are distributed; None: all processes.
    """

    def __init__(self, group: Any = None):
        self.group = group

    def held(self, experts: int) -> range:
        size = count_of(self.group)
        if experts % size:
            raise UsageError(f"{experts} experts cannot be shared out evenly among {size} processes")
        each = experts // size
        return range(self._rank() * each, (self._rank() + 1) * each)

    def dispatch(self, x: Tensor, routing: Routing) -> Segments:
        sizes = self._sizes(x, routing)
        tokens, pairs = tuple(sizes[:, 0].tolist()), tuple(sizes[:, 1].tolist())
        first = sizes[:, 0].cumsum(0) - sizes[:, 0]  # first row of each process's states
        states = _Gather.apply(x, tokens, self._rank(), self.group)
        weights = _Gather.apply(routing.weights, pairs, self._rank(), self.group)
        rows = _gather(routing.tokens + first[self._rank()], pairs, self.group)
        experts = _gather(routing.experts, pairs, self.group)
        held = self.held(routing.shape[1])
        mine = (experts >= held.start) & (experts < held.stop)
        local = experts[mine] - held.start
        return sorted_by_expert(
            states, rows[mine], local, weights[mine], load_of(local, len(held)), Origin(tokens)
        )

    def combine(self, y: Tensor, segments: Segments) -> Tensor:
        return _SumBack.apply(y, segments.origin.tokens, self._rank(), self.group)

    def _rank(self) -> int:
        return dist.get_rank(self.group) if count_of(self.group) > 1 else 0

    def _sizes(self, x: Tensor, routing: Routing) -> Tensor:
        """Number of tokens and of pairs of each process, int64 [processes, 2]."""
        own = torch.tensor([[len(x), len(routing.tokens)]], device=x.device)
        return _gather(own, (1,) * count_of(self.group), self.group)

    def __deepcopy__(self, memo: dict) -> "AllGatherDispatcher":
        return self  # it has no state, and groups cannot be copied


def _gather(part: Tensor, sizes: tuple[int, ...], group: Any) -> Tensor:
    """Concatenate the parts [size, ...] of all processes; their sizes may differ."""
    if len(sizes) == 1:
        return part
    padded = part.new_zeros(max(sizes), *part.shape[1:])  # all_gather wants equal sizes
    padded[: len(part)] = part
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded, group=group)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def _sum_back(whole: Tensor, sizes: tuple[int, ...], rank: int, group: Any) -> Tensor:
    """Sum `whole` over processes, and return this process's part."""
    if len(sizes) == 1:
        return whole
    total = whole.to(torch.promote_types(whole.dtype, torch.float32), copy=True)
    dist.all_reduce(total, group=group)
    first = sum(sizes[:rank])
    return total[first : first + sizes[rank]].to(whole.dtype)


class _Gather(torch.autograd.Function):
    """`_gather` with gradients: a part's gradient is the sum of its gradients over all processes."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, sizes: tuple[int, ...], rank: int, group: Any) -> Tensor:
        ctx.how = sizes, rank, group
        return part.view_as(part) if len(sizes) == 1 else _gather(part, sizes, group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        return _sum_back(gradients[0], *ctx.how), None, None, None


class _SumBack(torch.autograd.Function):
    """`_sum_back` with gradients: every process needs the gradients of all parts."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, sizes: tuple[int, ...], rank: int, group: Any) -> Tensor:
        ctx.how = sizes, group
        return whole.view_as(whole) if len(sizes) == 1 else _sum_back(whole, sizes, rank, group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        sizes, group = ctx.how
        return _gather(gradients[0].contiguous(), sizes, group), None, None, None
