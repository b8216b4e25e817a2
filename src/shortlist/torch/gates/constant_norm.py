"""A wrapper that gives a gate inputs of constant norm."""

from torch import Tensor

from shortlist.torch.gates.base import Gate, Routing, Wrapper
from shortlist.torch.numerics import wide


class ConstantNorm(Wrapper):
    """Scales every token's state to norm sqrt(width) before the inner gate sees it.

    Scores then depend on a state's direction only: a larger state is not routed more sharply, and the size of
    the router's gradient does not depend on the size of its input. Magnitude invariant parametrizations do
    the same for hypernetworks (https://arxiv.org/abs/2304.07645).

    Parameters
    ----------
    gate
        Any gate.
    """

    def __init__(self, gate: Gate):
        super().__init__(gate)

    def estimate(self, x: Tensor) -> Tensor:
        """Scores for the scaled states."""
        return self.gate.estimate(scaled(x))

    def forward(self, x: Tensor, token_ids: Tensor | None = None) -> Routing:
        """The shortlist for the scaled states."""
        return self.gate(scaled(x), token_ids)


def scaled(x: Tensor) -> Tensor:
    """Scale rows of x [tokens, width] to norm sqrt(width), computed in float32 or wider; zeros stay zero."""
    states = wide(x)
    size = states.square().mean(-1, keepdim=True).sqrt()
    return (states / size.clamp(min=1e-12)).to(x.dtype)
