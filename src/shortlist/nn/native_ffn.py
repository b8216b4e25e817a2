"""The feed-forward of many experts as grouped products of native kernels, both ways: float32 on CPU.

Rows are gathered and added up inside the products, so that nothing but inner states is written between them.

    x [rows, width]    rows, weights [pairs], sorted by expert
    h, a [pairs, neurons]: before and after the activation
    up [experts, neurons, width], twice as many neurons with gates    down [experts, width, neurons]
    d...: gradient of ...
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from shortlist import _native
from shortlist.nn.activations import Activation, activation_of
from shortlist.nn.dispatch import Segments
from shortlist.nn.native_threads import match_threads
from shortlist.nn.recycled import Recycled

INNER = Recycled(8)  # inner states, their activations, and the gradients of both
FEW = 128  # rows whose inner states stay in the cache between two steps of an activation


def native_serves(x: Tensor, up: Tensor, down: Tensor) -> bool:
    """Whether the native kernels take this: float32 on a processor."""
    return all(
        t.device.type == "cpu" and t.dtype == torch.float32 and t.is_contiguous() for t in (x, up, down)
    )


def native_ffn(
    segments: Segments, up: Tensor, down: Tensor, activation: str, gated: bool, gradients: Recycled
) -> Tensor:
    """As `segmented_ffn`.

    Parameters
    ----------
    segments
        States and pairs.
    up : [experts, neurons, width], twice as many with gates
    down : [experts, width, neurons]
    activation, gated
        As for `Experts`.
    gradients
        Memory for those of matrices.
    """
    inputs = segments.x, segments.weights.float(), segments.rows, segments.load, up, down
    how = _How(activation_of(activation), gated, gradients)
    if torch.is_grad_enabled() and any(t.requires_grad for t in inputs):
        return _NativeFFN.apply(*inputs, how)
    return _forward(*inputs, how)[0]


class _How(NamedTuple):
    activation: Activation
    gated: bool
    gradients: Recycled

    def activate(self, h: Tensor, a: Tensor) -> None:
        """Writes activations a of inner states h."""
        for inner, out in zip(h.split(FEW), a.split(FEW), strict=True):
            out.copy_(self.activation.neurons(inner, self.gated, dim=1))

    def activate_backward(self, da: Tensor, h: Tensor, dh: Tensor) -> None:
        """Writes the gradient dh of inner states, from that of their activations."""
        for given, inner, out in zip(da.split(FEW), h.split(FEW), dh.split(FEW), strict=True):
            out.copy_(self.activation.neurons_backward(given, inner, self.gated, dim=1))


def _forward(x, weights, rows, load, up, down, how: _How) -> tuple[Tensor, Tensor]:
    """Weighted sums [rows, width], and inner states."""
    h = INNER.empty(len(rows), up.shape[1])
    a = INNER.empty(len(rows), down.shape[2])
    out = torch.zeros_like(x)
    product(up, x, load, h, rows=rows)
    how.activate(h, a)
    product(down, a, load, out, out_rows=rows, scale=weights)
    return out, h


class _NativeFFN(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weights, rows, load, up, down, how):
        out, h = _forward(x, weights, rows, load, up, down, how)
        ctx.save_for_backward(x, weights, rows, load, up, down, h)
        ctx.how = how
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        x, weights, rows, load, up, down, h = ctx.saved_tensors
        dy, neurons = gradients[0].contiguous(), (len(rows), down.shape[2])
        a, da, dh = INNER.empty(*neurons), INNER.empty(*neurons), INNER.empty(*h.shape)
        dup = ddown = dx = None
        product(down, dy, load, da, rows=rows, transposed=True)
        ctx.how.activate(h, a)
        dweights = torch.linalg.vecdot(a, da)
        if ctx.needs_input_grad[5]:
            ddown = ctx.how.gradients.empty(*down.shape)
            outer(dy, a.mul_(weights[:, None]), load, ddown, left_rows=rows)
        ctx.how.activate_backward(da.mul_(weights[:, None]), h, dh)
        if ctx.needs_input_grad[4]:
            dup = ctx.how.gradients.empty(*up.shape)
            outer(dh, x, load, dup, right_rows=rows)
        if ctx.needs_input_grad[0]:
            dx = torch.zeros_like(x)
            product(up, dh, load, dx, out_rows=rows, transposed=True)
        return dx, dweights, None, None, dup, ddown, None


def product(
    weights: Tensor, x: Tensor, load: Tensor, out: Tensor, *, transposed: bool = False, **where
) -> None:
    """`_native.grouped_product`, of tensors."""
    match_threads()
    _native.grouped_product(*_arrays(weights, x, load, out), transposed=transposed, **_named(where))


def outer(left: Tensor, right: Tensor, load: Tensor, out: Tensor, **where) -> None:
    """`_native.grouped_outer`, of tensors."""
    match_threads()
    _native.grouped_outer(*_arrays(left, right, load, out), **_named(where))


def _arrays(*tensors: Tensor):
    return (t.detach().numpy() for t in tensors)


def _named(tensors: dict[str, Tensor]):
    return {name: t.detach().numpy() for name, t in tensors.items()}
