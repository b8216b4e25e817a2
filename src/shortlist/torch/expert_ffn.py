"""The feed-forward of many experts as one PyTorch operator, which compilers and exporters treat as one node.

x [rows, width]    rows, weights [pairs], sorted by expert    load [experts]: number of pairs
matrices: as in `segments.per_expert`    h: inner states, in an order that the implementation chooses
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from shortlist.torch import native_ffn, segments
from shortlist.torch.activations import activation_of
from shortlist.torch.dispatchers import Segments
from shortlist.torch.segments import Matrices, Work, empty_gradients, inner_width, per_expert


def expert_ffn(given: Segments, matrices: Matrices, activation: str, gated: bool) -> Tensor:
    """Weighted sums of the experts' outputs for every row of the states, with gradients.

    Native kernels compute float32 on the CPU; a loop over the experts computes the rest.

    Parameters
    ----------
    given
        States and pairs.
    matrices
        The matrices that `segments.per_expert` takes.
    activation, gated
        The settings of `ExpertBank`.

    Returns
    -------
    [rows, width]
        The sums, computed in float32 or wider and returned in the type of the states.
    """
    how = (given.x, given.weights, given.rows, given.load, list(matrices), activation, gated)
    if not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active():  # pyright: ignore[reportAttributeAccessIssue]
        return definition(*how)  # for example torch.func.grad, which takes no custom operator
    return _forward(*how)[0]


def definition(
    x: Tensor, weights: Tensor, rows: Tensor, load: Tensor, matrices: Matrices, activation: str, gated: bool
) -> Tensor:
    """The same by PyTorch's own operations: differentiable any number of times, with more memory."""
    ups, downs = per_expert(matrices)
    out = segments.sums_like(x)
    for e, segment, own in Work(rows, load.tolist(), activation, gated).segments():
        h = F.linear(x[own], ups[e].to(x.dtype))
        a = activation_of(activation).differentiable(h, gated) * weights[segment, None].to(x.dtype)
        out = out.index_add(0, own, F.linear(a, downs[e].to(x.dtype)).to(out.dtype))
    return out.to(x.dtype)


@torch.library.custom_op("shortlist::expert_ffn", mutates_args=())
def _forward(
    x: Tensor,
    weights: Tensor,
    rows: Tensor,
    load: Tensor,
    matrices: Sequence[Tensor],
    activation: str,
    gated: bool,
) -> tuple[Tensor, Tensor]:
    """Sums and inner states."""
    return _module(x, matrices).forward(x, weights, rows, load, matrices, activation, gated)


@_forward.register_fake
def _(x, weights, rows, load, matrices, activation, gated):
    return torch.empty_like(x), x.new_empty(len(rows), inner_width(matrices))


@torch.library.custom_op("shortlist::expert_ffn_backward", mutates_args=())
def _backward(
    dy: Tensor,
    x: Tensor,
    weights: Tensor,
    rows: Tensor,
    load: Tensor,
    matrices: Sequence[Tensor],
    h: Tensor,
    activation: str,
    gated: bool,
    needed: Sequence[bool],
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Gradients of x, weights and matrices; a gradient that is not needed is empty."""
    return _module(x, matrices).backward(dy, x, weights, rows, load, matrices, h, activation, gated, needed)


@_backward.register_fake
def _(dy, x, weights, rows, load, matrices, h, activation, gated, needed):
    return torch.empty_like(x), torch.empty_like(weights), empty_gradients(matrices, needed)


def _module(x: Tensor, matrices: Matrices) -> Any:
    return native_ffn if len(matrices) == 2 and native_ffn.native_serves(x, *matrices) else segments


def _keep(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    x, weights, rows, load, matrices, ctx.activation, ctx.gated = inputs
    ctx.save_for_backward(x, weights, rows, load, *matrices, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, dy: Tensor | None, _: Tensor | None) -> tuple:
    x, weights, rows, load, *matrices, h = ctx.saved_tensors
    how = ctx.activation, ctx.gated
    needed = ctx.needs_input_grad
    of_matrices = list(needed[4])
    if dy is None:
        return (None,) * 4 + ([None] * len(matrices), None, None)
    if torch.is_grad_enabled():  # these gradients will be differentiated
        # Views, because the weights may depend on the states: that path belongs to another operator.
        x, weights, *matrices = inputs = [t.view_as(t) for t in (x, weights, *matrices)]
        wanted = [t for t, need in zip(inputs, (*needed[:2], *of_matrices), strict=True) if need]
        out = definition(x, weights, rows, load, matrices, *how)
        found = iter(torch.autograd.grad(out, wanted, dy, create_graph=True, allow_unused=True))
        dx, dweights, *dmatrices = (next(found) if need else None for need in (*needed[:2], *of_matrices))
        return dx, dweights, None, None, dmatrices, None, None
    dx, dweights, dmatrices = _backward(dy, x, weights, rows, load, matrices, h, *how, of_matrices)
    dmatrices = [d if need else None for d, need in zip(dmatrices, of_matrices, strict=True)]
    return dx, dweights, None, None, dmatrices, None, None


_forward.register_autograd(_gradients, setup_context=_keep)
