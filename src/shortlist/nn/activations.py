"""Activations of feed-forward layers, by the names that `transformers` gives them in a configuration."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from shortlist.errors import UsageError


def relu2(x: Tensor) -> Tensor:
    """Squared ReLU (So et al., Primer, 2021)."""
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "relu2": relu2,
    "silu": F.silu,
}


def activation_of(name: str) -> Callable[[Tensor], Tensor]:
    """The function of that name.

    Raises
    ------
    UsageError
        There is none.
    """
    if name not in ACTIVATIONS:
        raise UsageError(f"unknown activation {name!r}: choose one of {', '.join(sorted(ACTIVATIONS))}")
    return ACTIVATIONS[name]
