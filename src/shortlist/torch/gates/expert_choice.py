"""Experts choose tokens, so that loads are equal by construction."""

import torch
from torch import Tensor

from shortlist.torch.gates.base import LinearGate, Routing, checked_k
from shortlist.torch.numerics import wide


class ExpertChoice(LinearGate):
    """Every expert takes the tokens that score it highest, k / experts of them (https://arxiv.org/abs/2202.09368).

    A token may have many experts or none. Weights are the token's softmax over all experts, so they add up to
    at most one. The choice depends on all tokens of the batch, later ones too. That suits encoders and
    comparisons; a decoder that is trained so gets other experts when it decodes token by token. Gives no
    losses: loads are equal already.

    Parameters
    ----------
    width, experts
        See `Gate`.
    k
        Experts of a token, on average.
    """

    def __init__(self, width: int, experts: int, k: int = 2):
        super().__init__(width, experts)
        self.k = checked_k(k, experts)

    def select(self, scores: Tensor) -> Routing:
        """Softmax weights, in float32, where they are among the largest of an expert."""
        weights = wide(scores).softmax(-1)
        capacity = -(-len(scores) * self.k // self.experts)
        chosen = weights.detach().topk(capacity, dim=0).indices
        mask = torch.zeros_like(weights, dtype=torch.bool).scatter_(0, chosen, True)
        return Routing.of_mask(weights.to(scores.dtype), mask)
