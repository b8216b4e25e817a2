"""The feed-forward of many experts as two grouped products, for GPUs that have a kernel for them."""

import torch
from torch import Tensor

from shortlist.torch.activations import activation_of
from shortlist.torch.dispatchers import Segments

ALIGNED = 8  # the kernel reads rows of a multiple of 16 bytes


def grouped_serves(x: Tensor, up: Tensor, down: Tensor) -> bool:
    """Whether the grouped kernel takes this: bfloat16 on a GPU, rows a multiple of 16 bytes."""
    return (
        x.device.type == "cuda"
        and x.dtype == torch.bfloat16
        and hasattr(torch, "_grouped_mm")
        and all(size % ALIGNED == 0 for size in (*up.shape[1:], *down.shape[1:]))
    )


def grouped_ffn(segments: Segments, up: Tensor, down: Tensor, activation: str, gated: bool) -> Tensor:
    """Weighted sums of the experts' outputs, without a loop and without waiting for the GPU.

    Parameters
    ----------
    segments
        States and pairs.
    up : [experts, neurons, width], twice as many with gates
    down : [experts, width, neurons]
    activation, gated
        The settings of `Experts`.
    """
    ends = segments.load.cumsum(0, dtype=torch.int32)
    x = segments.x
    product = torch._grouped_mm  # pyright: ignore[reportPrivateImportUsage]
    h = product(x[segments.rows], up.to(x.dtype).transpose(1, 2), offs=ends)
    a = activation_of(activation).differentiable(h, gated)
    a = a * segments.weights[:, None].to(a.dtype)
    y = product(a, down.to(x.dtype).transpose(1, 2), offs=ends)
    sums = torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32))
    return sums.index_add(0, segments.rows, y.to(sums.dtype)).to(x.dtype)
