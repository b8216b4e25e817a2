"""Chooses the experts whose predicted output norm is near the largest: as many as a token needs."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shortlist.torch.gates.base import Gate, Routing


class NormThreshold(Gate):
    """Dynamic k of D2DMoE (https://arxiv.org/abs/2310.04361).

    A small network predicts the logarithm of the norm of every expert's output. It is trained by regression
    on these norms, not through the weights of the chosen experts, which are all 1.

    Parameters
    ----------
    width, experts
        See `Gate`.
    tau
        An expert runs where its predicted norm is at least this share of the largest. A sweep over `tau`
        gives the whole curve of cost and quality.
    hidden
        Width of the network.
    """

    def __init__(self, width: int, experts: int, tau: float = 0.5, *, hidden: int = 64):
        super().__init__(width, experts)
        if not 0 < tau <= 1:
            raise ValueError(f"tau must be above 0 and at most 1, not {tau}")
        self.tau = tau
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, experts)

    def estimate(self, x: Tensor) -> Tensor:
        """Predicted logarithms of the norms."""
        return self.computed(self.down, F.relu(self.computed(self.up, x)))

    def select(self, scores: Tensor) -> Routing:
        """The experts with at least `tau` times the largest norm: one or more."""
        mask = scores >= scores.amax(-1, keepdim=True) + math.log(self.tau)
        return Routing.of_mask(torch.ones_like(scores), mask)
