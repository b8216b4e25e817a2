"""Experts: feed-forward layers side by side, with their weights fused in `transformers`' layout."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shortlist.nn.activations import activation_of


class Experts(nn.Module):
    """Feed-forward layers of equal size: `down(activation(gate(x)) * up(x))`, or without a gate.

    Parameters
    ----------
    count
        How many there are.
    width
        Of a token's state.
    hidden
        Neurons of one expert.
    activation
        A name of `shortlist.nn.activations.ACTIVATIONS`.
    gated
        Whether neurons have a gate (SwiGLU, GeGLU) or not.

    Attributes
    ----------
    gate_up_proj : [count, 2 * hidden, width]
        Gates, then ups; without a gate `up_proj` [count, hidden, width].
    down_proj : [count, width, hidden]
    """

    def __init__(self, count: int, width: int, hidden: int, activation: str = "silu", gated: bool = True):
        super().__init__()
        self.count = count
        self.width = width
        self.hidden = hidden
        self.activation = activation
        self.gated = gated
        activation_of(activation)
        up = nn.Parameter(torch.empty(count, (1 + gated) * hidden, width))
        self.register_parameter("gate_up_proj" if gated else "up_proj", up)
        self.down_proj = nn.Parameter(torch.empty(count, width, hidden))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all weights anew, as `nn.Linear` does."""
        for weight, fan_in in ((self.up, self.width), (self.down_proj, self.hidden)):
            nn.init.uniform_(weight, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    @property
    def up(self) -> Tensor:
        """What a token's state meets first: `gate_up_proj` or `up_proj`."""
        return getattr(self, "gate_up_proj" if self.gated else "up_proj")

    def forward(self, x: Tensor, load: Tensor) -> Tensor:
        """Every state through its expert.

        Parameters
        ----------
        x : [pairs, width]
            Sorted by expert.
        load : int64 [count]
            How many of these are each expert's.

        Returns
        -------
        [pairs, width]
        """
        parts = x.split(load.tolist())
        return torch.cat([self.one(part, e) for e, part in enumerate(parts)])

    def one(self, x: Tensor, expert: int) -> Tensor:
        """States [tokens, width] through one expert."""
        hidden = F.linear(x, self.up[expert])
        act = activation_of(self.activation)
        if self.gated:
            gate, up = hidden.chunk(2, dim=-1)
            hidden = act(gate) * up
        else:
            hidden = act(hidden)
        return F.linear(hidden, self.down_proj[expert])

    def extra_repr(self) -> str:
        return (
            f"{self.count}, width={self.width}, hidden={self.hidden}, {self.activation}, gated={self.gated}"
        )
