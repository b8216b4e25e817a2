"""Weights in {-1, 0, 1} with a scale for every row: trained straight through, stored in 2 bits."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from shortlist.torch.experts import Experts

PER_BYTE = 4


class Ternary(nn.Module):
    """A parametrization that rounds a row to {-1, 0, 1} times its mean magnitude; gradients pass unchanged.

    The rounding of BitNet b1.58 (https://arxiv.org/abs/2402.17764), here with a scale for every row.
    """

    def forward(self, weight: Tensor) -> Tensor:
        """Round weights [..., rows, width]."""
        codes, scale = ternarize(weight.detach())
        return codes * scale[..., None] + (weight - weight.detach())

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The trained parameter for a weight: the weight itself."""
        return weight


def ternarize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Codes in {-1, 0, 1} [..., rows, width] and scales [..., rows]; a row of zeros has scale 0."""
    scale = weight.abs().mean(-1)
    safe = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (weight / safe[..., None]).round().clamp(-1, 1), scale


def make_ternary(experts: Experts) -> Experts:
    """Make gated experts ternary, in place; their present weights become the trained parameters."""
    for name in ("gate_up_proj", "down_proj"):
        parametrize.register_parametrization(experts, name, Ternary())
    return experts


def pack(codes: np.ndarray) -> np.ndarray:
    """Pack codes int8 [..., width] in {-1, 0, 1} into uint8 [..., width / 4], the first in the low bits."""
    assert codes.shape[-1] % PER_BYTE == 0
    parts = (codes + 1).astype(np.uint8).reshape(*codes.shape[:-1], -1, PER_BYTE)
    return np.bitwise_or.reduce(parts << np.arange(0, 8, 2, dtype=np.uint8), axis=-1)


def unpack(packed: np.ndarray) -> np.ndarray:
    """Undo `pack`: codes int8 [..., width]."""
    codes = (packed[..., None] >> np.arange(0, 8, 2, dtype=np.uint8)) & 3
    return codes.reshape(*packed.shape[:-1], -1).astype(np.int8) - 1
