"""The feed-forward of many experts, forward and backward, with one product for each expert that has tokens.

Inner states are stored as [neurons, tokens]: the product of a weight matrix with few tokens is then up to
twice as fast (measured on the CPU, 2 to 256 tokens), and gate and up are two contiguous blocks.

    x [rows, width]    rows, weights [pairs], sorted by expert    m: pairs of one expert
    up [neurons, width], twice as many rows with gates    down [width, neurons]
    h, a [neurons, m]: before and after the activation    dx: gradient of x, and so on
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from shortlist.torch.activations import activation_of

SKINNY = 16  # below this number of tokens, a right-hand side stored by rows is faster
NARROW = 48  # the same for the product with a transposed weight

Matrices = Sequence[Tensor]
Frozen = tuple[Matrices, Matrices]


class Work(NamedTuple):
    """The rows of each expert, and the kind of feed-forward layer.

    Parameters
    ----------
    rows : int64 [pairs]
        Rows of x, sorted by expert.
    load
        Number of pairs of each expert.
    activation
        A name of `ACTIVATIONS`.
    gated
        Whether an up matrix holds gates, then ups.
    """

    rows: Tensor
    load: list[int]
    activation: str
    gated: bool

    def segments(self) -> Iterator[tuple[int, slice, Tensor]]:
        """Each expert that has pairs, with their range in the list and their rows."""
        start = 0
        for e, count in enumerate(self.load):
            if count:
                segment = slice(start, start + count)
                yield e, segment, self.rows[segment]
            start += count

    def clear_unused(self, *gradients: Sequence[Tensor] | Tensor) -> None:
        """Set the gradients of experts without pairs to zero; those of the others are written completely."""
        for each in gradients:
            if len(each):
                for e, count in enumerate(self.load):
                    if not count:
                        each[e].zero_()

    def activate(self, h: Tensor) -> Tensor:
        """Activations [neurons, m] of inner states."""
        return activation_of(self.activation).neurons(h, self.gated, dim=0)

    def activate_backward(self, da: Tensor, h: Tensor) -> Tensor:
        """The gradient of inner states, from the gradient da of their activations."""
        return activation_of(self.activation).neurons_backward(da, h, self.gated, dim=0)


def per_expert(matrices: Matrices) -> tuple[Matrices | Tensor, Matrices | Tensor]:
    """Up and down matrices of all experts, from two fused tensors or from one tensor for each.

    Both can be indexed by expert. Fused tensors stay whole: with many experts, making a view of each would
    take longer than the arithmetic of one token.
    """
    if matrices and matrices[0].dim() == 3:
        return matrices[0], matrices[1]
    half = len(matrices) // 2
    return matrices[:half], matrices[half:]


def times(w: Tensor, x: Tensor) -> Tensor:
    """The product w @ x.T [out, m], from rows x [m, in]."""
    return torch.mm(w.to(x.dtype), (x.contiguous() if len(x) < SKINNY else x).t())


def products(
    x: Tensor,
    weights: Tensor,
    work: Work,
    ups: Sequence[Any] | Tensor,
    downs: Sequence[Any] | Tensor,
    kept: list[Tensor] | None = None,
    times: Callable[[Any, Tensor], Tensor] = times,
) -> Tensor:
    """Weighted sums of the experts' outputs for every row of x; appends the inner states to `kept`."""
    out = sums_like(x)
    for e, segment, rows in work.segments():
        h = times(ups[e], x.index_select(0, rows))
        if kept is not None:
            kept.append(h)
        a = work.activate(h).mul_(weights[segment])
        _add_rows(out, rows, times(downs[e], a.t()))
    return out.to(x.dtype)


def gradients(
    dy: Tensor,
    x: Tensor,
    weights: Tensor,
    work: Work,
    kept: Sequence[Tensor],
    matrices: tuple[Any, Any],
    dups: Sequence[Tensor] | Tensor = (),
    ddowns: Sequence[Tensor] | Tensor = (),
) -> tuple[Tensor, Tensor]:
    """Gradients of x and weights. Writes the gradients of matrices where the caller gives memory for them.

    Parameters
    ----------
    dy : [rows, width]
        Gradient of `products`.
    x, weights, work
        The arguments of `products`.
    kept
        The inner states that `products` appended.
    matrices
        Ups and downs.
    dups, ddowns
        Memory for the gradients of all ups, and of all downs.
    """
    ups, downs = matrices
    work.clear_unused(dups, ddowns)
    dx, dweights = sums_like(x), torch.empty_like(weights)
    for (e, segment, rows), h in zip(work.segments(), kept, strict=True):
        weight = weights[segment].to(x.dtype)
        dy_e = dy.index_select(0, rows)
        a = work.activate(h)
        da = _transposed_times(downs[e].to(x.dtype), dy_e)
        # The weight multiplies a, so that its gradient needs a only and outputs are not kept.
        dweights[segment] = (a * da).sum(0)
        if len(ddowns):
            _product(dy_e.t(), (a * weight).t(), out=ddowns[e])
        dh = work.activate_backward(da * weight, h)
        if len(dups):
            _product(dh, x.index_select(0, rows), out=dups[e])
        _add_rows(dx, rows, _transposed_times(ups[e].to(x.dtype), dh.t()))
    return dx.to(x.dtype), dweights


def forward(
    x: Tensor, weights: Tensor, rows: Tensor, load: Tensor, matrices: Matrices, activation: str, gated: bool
) -> tuple[Tensor, Tensor]:
    """Sums [rows, width] and inner states [pairs, widest], without gradients."""
    work = Work(rows, load.tolist(), activation, gated)
    ups, downs = per_expert(matrices)
    kept: list[Tensor] = []
    out = products(x, weights, work, ups, downs, kept)
    states = x.new_empty(len(rows), inner_width(matrices))
    for place, h in zip(_places(states, work, ups), kept, strict=True):
        place.copy_(h)
    return out, states


def backward(
    dy: Tensor,
    x: Tensor,
    weights: Tensor,
    rows: Tensor,
    load: Tensor,
    matrices: Matrices,
    states: Tensor,
    activation: str,
    gated: bool,
    needed: Sequence[bool],
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Gradients of x, weights and matrices; `empty_gradients` allocates those of the matrices."""
    work = Work(rows, load.tolist(), activation, gated)
    pair = per_expert(matrices)
    dmatrices = empty_gradients(matrices, needed)
    half = len(matrices) // 2
    fused = isinstance(pair[0], Tensor)
    dups, ddowns = (
        (part[0] if fused else part) if part[0].numel() else ()
        for part in (dmatrices[:half], dmatrices[half:])
    )
    kept = list(_places(states, work, pair[0]))
    return *gradients(dy, x, weights, work, kept, pair, dups, ddowns), dmatrices


def inner_width(matrices: Matrices) -> int:
    """The number of inner states of a pair: that of the largest expert."""
    ups, _ = per_expert(matrices)
    return ups.shape[1] if isinstance(ups, Tensor) else max(map(len, ups))


def empty_gradients(matrices: Matrices, needed: Sequence[bool]) -> list[Tensor]:
    """Allocate gradients of up and down matrices; empty tensors for a kind whose gradients are not needed."""
    half = len(matrices) // 2
    wanted = [any(needed[:half])] * half + [any(needed[half:])] * half
    return [torch.empty_like(m) if want else m.new_empty(0) for m, want in zip(matrices, wanted, strict=True)]


def _places(states: Tensor, work: Work, ups: Sequence[Tensor] | Tensor) -> Iterator[Tensor]:
    """Views of inner states [pairs, widest]: for each expert its own, contiguous [neurons, m]."""
    flat, width = states.flatten(), states.shape[1]
    for e, segment, rows in work.segments():
        neurons = len(ups[e])
        yield flat[segment.start * width :][: neurons * len(rows)].view(neurons, len(rows))


def frozen_ffn(x: Tensor, weights: Tensor, work: Work, frozen: Frozen) -> Tensor:
    """The same as `products`, for matrices without gradients that are unpacked one expert at a time."""
    if torch.is_grad_enabled() and (x.requires_grad or weights.requires_grad):
        return _FrozenFFN.apply(x, weights, work, frozen)
    return products(x, weights, work, *frozen)


class _FrozenFFN(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weights, work, frozen):
        kept: list[Tensor] = []
        out = products(x, weights, work, *frozen, kept=kept)
        ctx.work, ctx.frozen = work, frozen
        ctx.save_for_backward(x, weights, *kept)
        return out

    @staticmethod
    def backward(ctx, *gradient):
        if torch.is_grad_enabled():
            raise NotImplementedError(
                "quantized experts have no second derivatives: leave out create_graph, or use them before "
                "they are quantized"
            )
        x, weights, *kept = ctx.saved_tensors
        return *gradients(gradient[0], x, weights, ctx.work, kept, ctx.frozen), None, None


def sums_like(x: Tensor) -> Tensor:
    return torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32))


def _add_rows(out: Tensor, rows: Tensor, columns: Tensor) -> None:
    """Add columns [width, m] to rows of out."""
    out.index_add_(0, rows, columns.t().contiguous().to(out.dtype))


def _transposed_times(w: Tensor, x: Tensor) -> Tensor:
    """The product w.T @ x.T, from rows x [m, out]."""
    return torch.mm(x, w).t() if len(x) < NARROW else torch.mm(w.t(), x.t())


def _product(a: Tensor, b: Tensor, out: Tensor) -> None:
    """Write a @ b into out, which may have another type."""
    if out.dtype == a.dtype:
        torch.mm(a, b, out=out)
    else:
        out.copy_(torch.mm(a, b))
