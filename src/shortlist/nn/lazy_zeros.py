"""Zeros that cost nothing until they are written to: gradients of experts without tokens."""

import numpy as np
import torch
from torch import Tensor


def lazy_zeros_like(x: Tensor) -> Tensor:
    """Zeros of the same shape, type and device.

    On CPU, NumPy asks the system for pages that are zero by promise, and for huge ones: what is never
    written is never touched, and what is written costs few page faults. `torch.zeros` writes every byte,
    which for the gradient of many experts of which few had tokens takes longer than all else.
    """
    if x.device.type != "cpu" or x.numel() == 0:
        return torch.zeros_like(x)
    zeros = np.zeros(x.numel() * x.element_size(), np.uint8)
    return torch.from_numpy(zeros).view(x.dtype).view(x.shape)
