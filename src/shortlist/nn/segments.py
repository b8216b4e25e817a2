"""The feed-forward of many experts, one product for each that has tokens, forward and backward.

Inner states lie with tokens as columns, [neurons, tokens]: the product of a weight matrix with few tokens is
then up to twice as fast (measured on CPU, 2 to 256 tokens), and gate and up are two whole blocks.

    x [rows, width]    rows, weights [pairs], sorted by expert    m: pairs of one expert
    up [neurons, width], twice as many rows with gates    down [width, neurons]
    h, a [neurons, m]: before and after the activation    d...: gradient of ...
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from shortlist.nn.activations import activation_of

SKINNY = 16  # fewer tokens are a faster right-hand side when they lie as rows
NARROW = 48  # likewise the tokens that meet a transposed weight

Matrices = Sequence[Tensor]
Frozen = tuple[Matrices, Matrices]


class Work(NamedTuple):
    """Which expert computes which rows, and how.

    Parameters
    ----------
    rows : int64 [pairs]
        Of x, sorted by expert.
    load
        Pairs of each expert.
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
        """Experts that have pairs, where in the list these are, and their rows."""
        start = 0
        for e, count in enumerate(self.load):
            if count:
                segment = slice(start, start + count)
                yield e, segment, self.rows[segment]
            start += count

    def clear_unused(self, *gradients: Sequence[Tensor] | Tensor) -> None:
        """Zeros for the experts without pairs; the others' gradients are written whole anyway."""
        for each in gradients:
            if len(each):
                for e, count in enumerate(self.load):
                    if not count:
                        each[e].zero_()

    def activate(self, h: Tensor) -> Tensor:
        """Activations [neurons, m] of inner states."""
        return activation_of(self.activation).neurons(h, self.gated, dim=0)

    def activate_backward(self, da: Tensor, h: Tensor) -> Tensor:
        """The gradient of inner states, from that of their activations."""
        return activation_of(self.activation).neurons_backward(da, h, self.gated, dim=0)


def segmented_ffn(
    x: Tensor, weights: Tensor, work: Work, matrices: Matrices, frozen: Frozen | None = None
) -> Tensor:
    """Weighted sums of the experts' outputs for every row of x, with gradients.

    Parameters
    ----------
    x : [rows, width]
    weights : [pairs]
        What a pair's output is multiplied with.
    work
        Which expert computes which rows.
    matrices
        As for `per_expert`; none where all are frozen.
    frozen
        Up and down matrices of all experts in place of `matrices`, without gradients: what makes a tensor of
        itself when it is asked for one expert.

    Returns
    -------
    [rows, width]
        Summed in float32, of the type of x.
    """
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, weights, *matrices)):
        return _SegmentedFFN.apply(x, weights, work, frozen, *matrices)
    return forward(x, weights, work, *(frozen or per_expert(matrices)))


def per_expert(matrices: Matrices) -> tuple[Matrices | Tensor, Matrices | Tensor]:
    """Up and down matrices of all experts, from two fused tensors or from one tensor for each.

    Either can be indexed by expert. Fused tensors stay whole: with many experts, a view of each would take
    longer than what one token computes.
    """
    if matrices and matrices[0].dim() == 3:
        return matrices[0], matrices[1]
    half = len(matrices) // 2
    return matrices[:half], matrices[half:]


def times(w: Tensor, x: Tensor) -> Tensor:
    """Columns w @ x.T [out, m], from rows x [m, in]."""
    return torch.mm(w.to(x.dtype), (x.contiguous() if len(x) < SKINNY else x).t())


def forward(
    x: Tensor,
    weights: Tensor,
    work: Work,
    ups: Sequence[Any] | Tensor,
    downs: Sequence[Any] | Tensor,
    kept: list[Tensor] | None = None,
    times: Callable[[Any, Tensor], Tensor] = times,
) -> Tensor:
    """`segmented_ffn` without gradients; appends the inner states to `kept`, for the backward pass."""
    out = _sums_like(x)
    for e, segment, rows in work.segments():
        h = times(ups[e], x.index_select(0, rows))
        if kept is not None:
            kept.append(h)
        a = work.activate(h).mul_(weights[segment])
        _add_rows(out, rows, times(downs[e], a.t()))
    return out.to(x.dtype)


class _SegmentedFFN(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weights, work, frozen, *matrices):
        kept: list[Tensor] = []
        out = forward(x, weights, work, *(frozen or per_expert(matrices)), kept=kept)
        ctx.work, ctx.frozen, ctx.count = work, frozen, len(matrices)
        ctx.save_for_backward(x, weights, *matrices, *kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        x, weights, *saved = ctx.saved_tensors
        matrices, kept = saved[: ctx.count], saved[ctx.count :]
        needed = ctx.needs_input_grad[4:]
        dmatrices = [torch.empty_like(matrix) for matrix in matrices]
        ups, downs = ctx.frozen or per_expert(matrices)
        dups, ddowns = per_expert(dmatrices)
        ctx.work.clear_unused(dups, ddowns)
        need_up, need_down = any(needed[: ctx.count // 2]), any(needed[ctx.count // 2 :])
        dx, dweights = _sums_like(x), torch.empty_like(weights)
        for (e, segment, rows), h in zip(ctx.work.segments(), kept, strict=True):
            weight = weights[segment].to(x.dtype)
            dy = gradients[0].index_select(0, rows)
            a = ctx.work.activate(h)
            da = _transposed_times(downs[e].to(x.dtype), dy)
            # The weight is applied to a, so that its gradient needs a only: outputs are not kept.
            dweights[segment] = (a * da).sum(0)
            if need_down:
                _product(dy.t(), (a * weight).t(), out=ddowns[e])
            dh = ctx.work.activate_backward(da * weight, h)
            if need_up:
                _product(dh, x.index_select(0, rows), out=dups[e])
            _add_rows(dx, rows, _transposed_times(ups[e].to(x.dtype), dh.t()))
        wanted = (d if need else None for d, need in zip(dmatrices, needed, strict=True))
        return dx.to(x.dtype), dweights, None, None, *wanted


def _sums_like(x: Tensor) -> Tensor:
    return torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32))


def _add_rows(out: Tensor, rows: Tensor, columns: Tensor) -> None:
    """Adds columns [width, m] to rows of out."""
    out.index_add_(0, rows, columns.t().contiguous().to(out.dtype))


def _transposed_times(w: Tensor, x: Tensor) -> Tensor:
    """Columns w.T @ x.T of a matrix and rows [m, out]."""
    return torch.mm(x, w).t() if len(x) < NARROW else torch.mm(w.t(), x.t())


def _product(a: Tensor, b: Tensor, out: Tensor) -> None:
    """Into memory that may be of another type."""
    if out.dtype == a.dtype:
        torch.mm(a, b, out=out)
    else:
        out.copy_(torch.mm(a, b))
