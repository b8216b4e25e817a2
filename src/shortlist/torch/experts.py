"""Experts: feed-forward layers side by side, with their weights fused in `transformers`' layout."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shortlist.torch.activations import activation_of
from shortlist.torch.dispatchers import Segments
from shortlist.torch.expert_ffn import expert_ffn
from shortlist.torch.grouped import grouped_ffn, grouped_serves
from shortlist.torch.native_ffn import GRADIENTS
from shortlist.torch.segments import Frozen, Matrices, per_expert


class ExpertBank(nn.Module, ABC):
    """Feed-forward layers side by side: `down(activation(gate(x)) * up(x))`, or `down(activation(up(x)))`.

    Parameters
    ----------
    count
        Number of experts.
    width
        Width of a token's state.
    activation
        A name of `shortlist.torch.activations.ACTIVATIONS`.
    gated
        Whether neurons have a gate (SwiGLU, GeGLU) or not.
    """

    def __init__(self, count: int, width: int, activation: str, gated: bool):
        super().__init__()
        activation_of(activation)
        self.count = count
        self.width = width
        self.activation = activation
        self.gated = gated

    @abstractmethod
    def matrices(self) -> Matrices:
        """The matrices of all experts, in a form that `segments.per_expert` takes."""

    def frozen(self) -> Frozen | None:
        """The matrices of experts whose weights are no trainable tensors; used instead of `matrices`."""
        return None

    def forward(self, segments: Segments) -> Tensor:
        """Weighted sums of the experts' outputs for every row of the segments: [rows, width]."""
        x, device = segments.x, segments.x.device.type
        if torch.is_autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))
        with torch.autocast(device, enabled=False):
            return self.compute(replace(segments, x=x), self.matrices())

    def compute(self, segments: Segments, matrices: Matrices) -> Tensor:
        """The same as `forward`, in the type of the segments' states."""
        return expert_ffn(segments, matrices, self.activation, self.gated)

    def one(self, x: Tensor, expert: int) -> Tensor:
        """Outputs of one expert for states [tokens, width], computed by the definition."""
        ups, downs = self.frozen() or per_expert(self.matrices())
        h = F.linear(x, ups[expert])
        a = activation_of(self.activation).differentiable(h, self.gated)
        return F.linear(a, downs[expert])

    def reset_parameters(self) -> None:
        """Draw all weights anew, as `nn.Linear` does."""
        for matrix in self.matrices():
            bound = 1 / math.sqrt(matrix.shape[-1])
            nn.init.uniform_(matrix, -bound, bound)

    def extra_repr(self) -> str:
        return f"{self.count}, width={self.width}, activation={self.activation}, gated={self.gated}"


class Experts(ExpertBank):
    """Experts of one size.

    Parameters
    ----------
    count, width, activation, gated
        The settings of `ExpertBank`.
    hidden
        Neurons of one expert.

    Attributes
    ----------
    gate_up_proj : [count, 2 * hidden, width]
        Gates, then ups; without gates `up_proj` [count, hidden, width].
    down_proj : [count, width, hidden]
    """

    gate_up_proj: Tensor
    up_proj: Tensor
    down_proj: Tensor

    def __init__(self, count: int, width: int, hidden: int, activation: str = "silu", gated: bool = True):
        super().__init__(count, width, activation, gated)
        self.hidden = hidden
        up = nn.Parameter(torch.empty(count, (1 + gated) * hidden, width))
        self.register_parameter("gate_up_proj" if gated else "up_proj", up)
        self.down_proj = nn.Parameter(torch.empty(count, width, hidden))
        self._keep_gradients()
        self.reset_parameters()

    def matrices(self) -> Matrices:
        return (self.gate_up_proj if self.gated else self.up_proj), self.down_proj

    def compute(self, segments: Segments, matrices: Matrices) -> Tensor:
        up, down = matrices
        if grouped_serves(segments.x, up, down):
            return grouped_ffn(segments, up, down, self.activation, self.gated)
        return super().compute(segments, matrices)

    def _keep_gradients(self) -> None:
        GRADIENTS.make_room(self, 4)  # the gradients of two matrices, and two more that are added to them

    def __setstate__(self, state: dict) -> None:  # a copy registers its gradients anew
        super().__setstate__(state)
        self._keep_gradients()


class UnequalExperts(ExpertBank):
    """Experts of different sizes, each with its own matrices.

    Parameters
    ----------
    width, activation, gated
        The settings of `ExpertBank`.
    hidden
        Neurons of each expert.

    Attributes
    ----------
    up_proj : one for each expert, [2 * hidden or hidden, width]
        Gates, then ups.
    down_proj : one for each expert, [width, hidden]
    """

    def __init__(self, width: int, hidden: Sequence[int], activation: str = "silu", gated: bool = True):
        super().__init__(len(hidden), width, activation, gated)
        self.up_proj = nn.ParameterList(torch.empty((1 + gated) * size, width) for size in hidden)
        self.down_proj = nn.ParameterList(torch.empty(width, size) for size in hidden)
        self.reset_parameters()

    def matrices(self) -> Matrices:
        return (*self.up_proj, *self.down_proj)
