"""Activations of feed-forward layers, by the names that `transformers` gives them in a configuration."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from shortlist.errors import UsageError

aten = torch.ops.aten


@dataclass(frozen=True)
class Activation:
    """An elementwise function, with its gradient by the chain rule: `backward(gradient, x)`."""

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]

    def differentiable(self, h: Tensor, gated: bool) -> Tensor:
        """Activations of inner states [..., neurons]; gated layers hold gates first, then ups."""
        if not gated:
            return self.forward(h)
        gate, up = h.chunk(2, dim=-1)
        return self.forward(gate) * up

    def neurons(self, h: Tensor, gated: bool, dim: int) -> Tensor:
        """Activations of inner states whose neurons lie along `dim`; gated layers hold gates first, then ups.

        Not for tensors that need gradients.
        """
        if not gated:
            return self.forward(h)
        gate, up = h.chunk(2, dim)
        return self.forward(gate).mul_(up)

    def neurons_backward(self, da: Tensor, h: Tensor, gated: bool, dim: int) -> Tensor:
        """The gradient of inner states, computed from the gradient `da` of their activations."""
        if not gated:
            return self.backward(da, h)
        gate, up = h.chunk(2, dim)
        return torch.cat([self.backward(da * up, gate), da * self.forward(gate)], dim)


def _gelu(approximate: str) -> Activation:
    return Activation(
        lambda x: F.gelu(x, approximate=approximate),
        lambda gradient, x: aten.gelu_backward(gradient, x, approximate=approximate),
    )


ACTIVATIONS: dict[str, Activation] = {
    "gelu": _gelu("none"),
    "gelu_pytorch_tanh": _gelu("tanh"),
    "relu": Activation(F.relu, lambda gradient, x: aten.threshold_backward(gradient, x, 0)),
    # Squared ReLU: So et al., Primer, 2021.
    "relu2": Activation(lambda x: F.relu(x).square(), lambda gradient, x: 2 * F.relu(x) * gradient),
    "silu": Activation(F.silu, lambda gradient, x: aten.silu_backward(gradient, x)),
}


def activation_of(name: str) -> Activation:
    """Look up an activation by name.

    Raises
    ------
    UsageError
        No activation has this name.
    """
    if name not in ACTIVATIONS:
        raise UsageError(f"unknown activation {name!r}: choose one of {', '.join(sorted(ACTIVATIONS))}")
    return ACTIVATIONS[name]
