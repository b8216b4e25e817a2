"""Sums over the processes of a distributed run. They cost nothing in a single process."""

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def count_of(group: Any = None) -> int:
    """The number of processes that train together: 1 where `torch.distributed` does not run."""
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


def sum_over(values: Tensor, group: Any = None) -> Tensor:
    """The sum of the values [...] of all processes of a group, without gradients."""
    total = values.detach().clone()
    if count_of(group) > 1:
        dist.all_reduce(total, group=group)
    return total


def share_first(holds: Tensor, tensors: list[Tensor], group: Any = None) -> None:
    """Copy the tensors of the first process that holds them to all processes, in place.

    Parameters
    ----------
    holds
        A scalar: true where this process holds the tensors.
    tensors
        Tensors with the same shapes in all processes.
    group
        The processes; all of them call this function.
    """
    if count_of(group) == 1:
        return
    rank = torch.full((), dist.get_rank(group), device=tensors[0].device)
    first = torch.where(holds, rank, count_of(group))
    dist.all_reduce(first, dist.ReduceOp.MIN, group=group)
    if first < count_of(group):
        for tensor in tensors:
            dist.broadcast(tensor, group=group, group_src=int(first))
