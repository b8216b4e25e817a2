"""Types and counts that gates and losses share."""

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """In float32, or in a wider type where x has one."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def without_autocast(x: Tensor) -> torch.autocast:
    """A context in which products with x are computed in the types that their factors have."""
    return torch.autocast(x.device.type, enabled=False)


def load_of(experts: Tensor, count: int) -> Tensor:
    """How often each of `count` experts occurs among experts [pairs]: int64 [count]."""
    zeros = torch.zeros(count, dtype=torch.int64, device=experts.device)
    return zeros.scatter_add_(0, experts, torch.ones_like(experts))  # bincount has no fixed shape to compile
