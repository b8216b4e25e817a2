"""The feed-forward of many experts as grouped products of the native kernels, forward and backward: float32 on CPU.

Rows are gathered and added up inside the products, so that nothing but inner states is written between them.

    x [rows, width]    rows, weights [pairs], sorted by expert    h, a [pairs, neurons]: before, after activation
    up [experts, neurons, width], twice as many neurons with gates    down [experts, width, neurons]
    d...: gradient of ...
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from shortlist import _native
from shortlist.nn.activations import activation_of
from shortlist.nn.dispatch import Segments


def native_serves(x: Tensor, up: Tensor, down: Tensor) -> bool:
    """Whether the native kernels take this: float32 on a processor."""
    return all(t.device.type == "cpu" and t.dtype == torch.float32 and t.is_contiguous() for t in (x, up, down))


def native_ffn(segments: Segments, up: Tensor, down: Tensor, activation: str, gated: bool) -> Tensor:
    """As `segmented_ffn`.

    Parameters
    ----------
    segments
        States and pairs.
    up : [experts, neurons, width], twice as many with gates
    down : [experts, width, neurons]
    activation, gated
        As for `Experts`.
    """
    _native.set_threads(torch.get_num_threads())
    inputs = segments.x, segments.weights.float(), segments.rows, segments.load, up, down
    if torch.is_grad_enabled() and any(t.requires_grad for t in inputs):
        return _NativeFFN.apply(*inputs, activation, gated)
    return _forward(*inputs, activation, gated)[0]


def _forward(x, weights, rows, load, up, down, activation, gated) -> tuple[Tensor, Tensor]:
    """Weighted sums [rows, width], and inner states."""
    h = x.new_empty(len(rows), up.shape[1])
    product(up, x, load, h, rows=rows)
    out = torch.zeros_like(x)
    product(down, _activate(h, activation, gated), load, out, out_rows=rows, scale=weights)
    return out, h


class _NativeFFN(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weights, rows, load, up, down, activation, gated):
        out, h = _forward(x, weights, rows, load, up, down, activation, gated)
        ctx.save_for_backward(x, weights, rows, load, up, down, h)
        ctx.activation, ctx.gated = activation, gated
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        x, weights, rows, load, up, down, h = ctx.saved_tensors
        dy = gradients[0].contiguous()
        da = x.new_empty(len(rows), down.shape[2])
        product(down, dy, load, da, rows=rows, transposed=True)
        a = _activate(h, ctx.activation, ctx.gated)
        dweights = torch.linalg.vecdot(a, da)
        dup = ddown = dx = None
        if ctx.needs_input_grad[5]:
            ddown = torch.empty_like(down)
            outer(dy, a.mul_(weights[:, None]), load, ddown, left_rows=rows)
        dh = _activate_backward(da.mul_(weights[:, None]), h, ctx.activation, ctx.gated)
        if ctx.needs_input_grad[4]:
            dup = torch.empty_like(up)
            outer(dh, x, load, dup, right_rows=rows)
        if ctx.needs_input_grad[0]:
            dx = torch.zeros_like(x)
            product(up, dh, load, dx, out_rows=rows, transposed=True)
        return dx, dweights, None, None, dup, ddown, None, None


def product(weights: Tensor, x: Tensor, load: Tensor, out: Tensor, *, transposed: bool = False, **where) -> None:
    """`_native.grouped_product`, of tensors."""
    _native.grouped_product(*_arrays(weights, x, load, out), transposed=transposed, **_named(where))


def outer(left: Tensor, right: Tensor, load: Tensor, out: Tensor, **where) -> None:
    """`_native.grouped_outer`, of tensors."""
    _native.grouped_outer(*_arrays(left, right, load, out), **_named(where))


def _arrays(*tensors: Tensor):
    return (t.detach().numpy() for t in tensors)


def _named(tensors: dict[str, Tensor]):
    return {name: t.detach().numpy() for name, t in tensors.items()}


def _activate(h: Tensor, activation: str, gated: bool) -> Tensor:
    forward = activation_of(activation).forward
    if not gated:
        return forward(h)
    gate, up = h.chunk(2, dim=1)
    return forward(gate).mul_(up)


def _activate_backward(da: Tensor, h: Tensor, activation: str, gated: bool) -> Tensor:
    act = activation_of(activation)
    if not gated:
        return act.backward(da, h)
    gate, up = h.chunk(2, dim=1)
    return torch.cat([act.backward(da * up, gate), da * act.forward(gate)], dim=1)
