"""Experts are shared out among processes, and every process sees the states of all."""

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
    """Where gathered states come from: `tokens` of each process in the order of their ranks."""

    tokens: tuple[int, ...]


class AllGatherDispatcher(Dispatcher):
    """Gathers all states everywhere, computes the pairs whose experts are held here, and sums over processes.

    The simplest way to hold more experts than fit one process. Messages do not depend on the routing: each
    process receives the states of all others and takes part in one sum of the same size.

    Parameters
    ----------
    group
        Processes among which the experts are shared out, as `torch.distributed` knows them; None: all.
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
        first = sizes[:, 0].cumsum(0) - sizes[:, 0]  # the row at which each process's states begin
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
        """Tokens and pairs of each process, int64 [processes, 2]."""
        own = torch.tensor([[len(x), len(routing.tokens)]], device=x.device)
        return _gather(own, (1,) * count_of(self.group), self.group)

    def __deepcopy__(self, memo: dict) -> "AllGatherDispatcher":
        return self  # it has no state, and groups cannot be copied


def _gather(part: Tensor, sizes: tuple[int, ...], group: Any) -> Tensor:
    """The parts [size, ...] of all processes, one after the other; their sizes may differ."""
    if len(sizes) == 1:
        return part
    padded = part.new_zeros(max(sizes), *part.shape[1:])  # as a gathering wants equal sizes
    padded[: len(part)] = part
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded, group=group)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def _sum_back(whole: Tensor, sizes: tuple[int, ...], rank: int, group: Any) -> Tensor:
    """This process's part of the sum of what all have for all parts."""
    if len(sizes) == 1:
        return whole
    total = whole.to(torch.promote_types(whole.dtype, torch.float32), copy=True)
    dist.all_reduce(total, group=group)
    first = sum(sizes[:rank])
    return total[first : first + sizes[rank]].to(whole.dtype)


class _Gather(torch.autograd.Function):
    """`_gather` with gradients: a part's gradient is the sum of those that all processes have for it."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, sizes: tuple[int, ...], rank: int, group: Any) -> Tensor:
        ctx.how = sizes, rank, group
        return part.view_as(part) if len(sizes) == 1 else _gather(part, sizes, group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        return _sum_back(gradients[0], *ctx.how), None, None, None


class _SumBack(torch.autograd.Function):
    """`_sum_back` with gradients: every process needs those of all parts."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, sizes: tuple[int, ...], rank: int, group: Any) -> Tensor:
        ctx.how = sizes, group
        return whole.view_as(whole) if len(sizes) == 1 else _sum_back(whole, sizes, rank, group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        sizes, group = ctx.how
        return _gather(gradients[0].contiguous(), sizes, group), None, None, None
