"""Softmax top-k of noisy scores: experts just below the top k are tried in training."""

import torch
from torch import Tensor, nn

from shortlist.torch.gates.base import LinearGate, Routing, checked_k
from shortlist.torch.gates.softmax import best_of_softmax


class NoisyTopK(LinearGate):
    """Adds normal noise of a learned size to the logits in training (https://arxiv.org/abs/1701.06538).

    Weights add up to one for k > 1. Gives the losses `load_balance` and `router_z`.

    Parameters
    ----------
    width, experts
        See `Gate`.
    k
        Experts of a token.
    """

    gives = frozenset({"load_balance", "router_z"})

    def __init__(self, width: int, experts: int, k: int = 2):
        super().__init__(width, experts)
        self.k = checked_k(k, experts)
        self.noise = nn.Linear(width, experts, bias=False)
        nn.init.zeros_(self.noise.weight)  # all experts begin with the same size of noise

    def estimate(self, x: Tensor) -> Tensor:
        """Router logits, with noise in training."""
        logits = self.computed(self.router, x)
        if not self.training:
            return logits
        return logits + torch.randn_like(logits) * nn.functional.softplus(self.computed(self.noise, x))

    def select(self, scores: Tensor) -> Routing:
        """Softmax over the k largest logits."""
        return best_of_softmax(scores, self.k, normalize=self.k > 1, group=self.group)
