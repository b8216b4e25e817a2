"""Any gate, with inputs of constant length."""

from torch import Tensor

from shortlist.torch.gates.base import Gate, Routing, Wrapper
from shortlist.torch.numerics import wide


class ConstantNorm(Wrapper):
    """Scales every token's state to length sqrt(width) before the gate sees it.

    Scores then depend on a state's direction alone: a token with a long state is not routed more sharply than
    one with a short state, and the size of the router's gradient no longer follows that of its input, which
    is what magnitude invariant parametrizations do for hypernetworks (https://arxiv.org/abs/2304.07645).

    Parameters
    ----------
    gate
        Any gate.
    """

    def __init__(self, gate: Gate):
        super().__init__(gate)

    def estimate(self, x: Tensor) -> Tensor:
        """Of the scaled states."""
        return self.gate.estimate(scaled(x))

    def forward(self, x: Tensor, token_ids: Tensor | None = None) -> Routing:
        """The shortlist for the scaled states."""
        return self.gate(scaled(x), token_ids)


def scaled(x: Tensor) -> Tensor:
    """Rows of x [tokens, width] at length sqrt(width), in float32 or wider on the way; rows of zeros stay."""
    states = wide(x)
    size = states.square().mean(-1, keepdim=True).sqrt()
    return (states / size.clamp(min=1e-12)).to(x.dtype)
