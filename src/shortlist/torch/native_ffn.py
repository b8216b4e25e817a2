"""The feed-forward of many experts by native grouped products, forward and backward: float32 on the CPU.

The products gather their rows and add up their results, so that only inner states are written between them.

    x [rows, width]    rows, weights [pairs], sorted by expert
    h, a [pairs, neurons]: before and after the activation
    up [experts, neurons, width], twice as many neurons with gates    down [experts, width, neurons]
    dx: gradient of x, and so on
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from shortlist import _native
from shortlist.torch.activations import Activation, activation_of
from shortlist.torch.native_threads import torch_workers
from shortlist.torch.recycled import Recycled
from shortlist.torch.segments import Matrices

INNER = Recycled(8)  # inner states, their activations, and the gradients of both
GRADIENTS = Recycled()  # gradients of matrices: layers reserve space for theirs
FEW = 128  # a number of rows whose inner states stay in the CPU's cache between the steps of an activation


def native_serves(x: Tensor, up: Tensor, down: Tensor) -> bool:
    """Whether the native kernels take these tensors: float32 on the CPU."""
    return all(
        t.device.type == "cpu" and t.dtype == torch.float32 and t.is_contiguous() for t in (x, up, down)
    )


class _How(NamedTuple):
    activation: Activation
    gated: bool

    def activate(self, h: Tensor, a: Tensor) -> None:
        """Write the activations of inner states h into a."""
        for inner, out in zip(h.split(FEW), a.split(FEW), strict=True):
            out.copy_(self.activation.neurons(inner, self.gated, dim=1))

    def activate_backward(self, da: Tensor, h: Tensor, dh: Tensor) -> None:
        """Write the gradient of inner states into dh, from the gradient da of their activations."""
        for given, inner, out in zip(da.split(FEW), h.split(FEW), dh.split(FEW), strict=True):
            out.copy_(self.activation.neurons_backward(given, inner, self.gated, dim=1))


def forward(
    x: Tensor, weights: Tensor, rows: Tensor, load: Tensor, matrices: Matrices, activation: str, gated: bool
) -> tuple[Tensor, Tensor]:
    """Weighted sums [rows, width], and inner states."""
    up, down = matrices
    x, weights = x.contiguous(), weights.float()
    h = INNER.empty(len(rows), up.shape[1])
    a = INNER.empty(len(rows), down.shape[2])
    out = torch.zeros_like(x)
    product(up, x, load, h, rows=rows)
    _How(activation_of(activation), gated).activate(h, a)
    product(down, a, load, out, out_rows=rows, scale=weights)
    return out, h


def backward(
    dy: Tensor,
    x: Tensor,
    weights: Tensor,
    rows: Tensor,
    load: Tensor,
    matrices: Matrices,
    h: Tensor,
    activation: str,
    gated: bool,
    needed: Sequence[bool],
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Gradients of x, weights and matrices; a gradient that is not needed is empty."""
    up, down = matrices
    how, scale = _How(activation_of(activation), gated), weights.float()[:, None]
    dy, x, neurons = dy.contiguous(), x.contiguous(), (len(rows), down.shape[2])
    a, da, dh = INNER.empty(*neurons), INNER.empty(*neurons), INNER.empty(*h.shape)
    dup, ddown = (
        GRADIENTS.empty(*m.shape) if need else m.new_empty(0)
        for m, need in zip(matrices, needed, strict=True)
    )
    product(down, dy, load, da, rows=rows, transposed=True)
    how.activate(h, a)
    dweights = torch.linalg.vecdot(a, da)
    if needed[1]:
        outer(dy, a.mul_(scale), load, ddown, left_rows=rows)
    how.activate_backward(da.mul_(scale), h, dh)
    if needed[0]:
        outer(dh, x, load, dup, right_rows=rows)
    dx = torch.zeros_like(x)
    product(up, dh, load, dx, out_rows=rows, transposed=True)
    return dx, dweights.to(weights.dtype), [dup, ddown]


def product(
    weights: Tensor, x: Tensor, load: Tensor, out: Tensor, *, transposed: bool = False, **where
) -> None:
    """Call `_native.grouped_product` with tensors."""
    with torch_workers():
        _native.grouped_product(*_arrays(weights, x, load, out), transposed=transposed, **_named(where))


def outer(left: Tensor, right: Tensor, load: Tensor, out: Tensor, **where) -> None:
    """Call `_native.grouped_outer` with tensors."""
    with torch_workers():
        _native.grouped_outer(*_arrays(left, right, load, out), **_named(where))


def _arrays(*tensors: Tensor) -> Any:
    # Not by `tensor.numpy()`: its storage could then not be resized, as FSDP does.
    return (t.detach() for t in tensors)


def _named(tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {name: t.detach() for name, t in tensors.items()}
