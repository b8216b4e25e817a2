"""Type conversions and counts that gates and losses share."""

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """Convert x to float32; float64 stays as it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def without_autocast(x: Tensor) -> torch.autocast:
    """Turn autocast off on the device of x: products then use the types of their factors."""
    return torch.autocast(x.device.type, enabled=False)


def load_of(experts: Tensor, count: int) -> Tensor:
    """Number of occurrences of each of `count` experts in experts [pairs]: int64 [count]."""
    zeros = torch.zeros(count, dtype=torch.int64, device=experts.device)
    return zeros.scatter_add_(0, experts, torch.ones_like(experts))  # bincount has no fixed shape to compile
