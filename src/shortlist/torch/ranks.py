"""Sums over the processes of a distributed run. One process alone pays nothing for them."""

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def count_of(group: Any = None) -> int:
    """How many processes train together: 1 where `torch.distributed` does not run."""
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


def sum_over(values: Tensor, group: Any = None) -> Tensor:
    """The sum of the values [...] that all processes of a group have, without gradients."""
    total = values.detach().clone()
    if count_of(group) > 1:
        dist.all_reduce(total, group=group)
    return total


def share_first(holds: Tensor, tensors: list[Tensor], group: Any = None) -> None:
    """Gives all processes the tensors of the first one that holds some, in place.

    Parameters
    ----------
    holds
        Whether this process does, a scalar.
    tensors
        Of the same shapes everywhere.
    group
        Of processes, all of which call this.
    """
    if count_of(group) == 1:
        return
    rank = torch.full((), dist.get_rank(group), device=tensors[0].device)
    first = torch.where(holds, rank, count_of(group))
    dist.all_reduce(first, dist.ReduceOp.MIN, group=group)
    if first < count_of(group):
        for tensor in tensors:
            dist.broadcast(tensor, group=group, group_src=int(first))
