"""COMET: k trees over the experts, each of which leads a token to one leaf with exact zeros elsewhere."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from shortlist.torch.gates.base import Gate, Routing, checked_k
from shortlist.torch.losses import entropy, load_balance
from shortlist.torch.numerics import wide, without_autocast


class Comet(Gate):
    """k trees that split by a smooth step (https://arxiv.org/abs/2306.02824).

    A node sends a share of the token to its left and the rest to its right child. The share is a smooth step
    of a linear function of the token: exactly 0 or 1 outside a window, so that trees begin soft, with all
    experts, and end hard, with one leaf each, while every step of that way has a gradient. What reaches the
    leaves, times the exponential of a linear function for each leaf, is summed over trees and divided by its
    sum: weights add up to one, and at most k experts are left where trees are hard. Gives the losses
    `entropy`, of what reaches the leaves, summed over trees, which hardens them, and `load_balance`, without
    which hard trees tend to agree on one or two experts for all tokens.

    Parameters
    ----------
    width, experts
        As for every gate.
    k
        Trees: most experts of a token where trees are hard.
    window
        Width of the smooth step; the paper's gamma.
    """

    gives = frozenset({"entropy", "load_balance"})

    def __init__(self, width: int, experts: int, k: int = 2, *, window: float = 1.0):
        super().__init__(width, experts)
        self.k = checked_k(k, experts)
        self.window = window
        small = window / 100  # all shares near a half
        self.node_weight = nn.Parameter(torch.empty(k, experts - 1, width).uniform_(-small, small))
        self.node_bias = nn.Parameter(torch.empty(k, experts - 1).uniform_(-small, small))
        self.leaf_weight = nn.Parameter(torch.empty(k, experts, width).uniform_(-0.05, 0.05))
        self.leaf_bias = nn.Parameter(torch.zeros(k, experts))

    def forward(self, x: Tensor, token_ids: Tensor | None = None) -> Routing:
        """The shortlist for states [tokens, width]."""
        reached = self.reached(x)
        routing = self.select(self._masses(x, reached))
        balance = load_balance(wide(routing.dense()), routing.experts, self.group)
        return replace(routing, losses={"entropy": entropy(reached), "load_balance": balance})

    def estimate(self, x: Tensor) -> Tensor:
        """Weights before they are divided by their sum; exact zeros off the shortlist."""
        return self._masses(x, self.reached(x))

    def select(self, scores: Tensor) -> Routing:
        """Whatever is not zero, divided by its sum."""
        weights = wide(scores)
        weights = weights / weights.sum(-1, keepdim=True)
        return Routing.of_mask(weights.to(scores.dtype), scores > 0)

    def reached(self, x: Tensor) -> Tensor:
        """Share of each token that arrives at each tree's leaves, float32 or wider [tokens, trees, experts].

        Nodes are numbered as in a heap: those from `experts - 1` on are leaves.
        """
        steps = smooth_step(_linear(x, self.node_weight, self.node_bias) / self.window)
        level = steps.new_ones(len(x), self.k, 1)
        first, leaves = 0, []
        while first < self.experts - 1:
            inner = min(self.experts - 1 - first, level.shape[-1])
            leaves.append(level[..., inner:])
            parents, left = level[..., :inner], steps[..., first : first + inner]
            level = torch.stack((parents * left, parents * (1 - left)), dim=-1).flatten(-2)
            first = 2 * first + 1
        return torch.cat((*leaves, level), dim=-1)

    def _masses(self, x: Tensor, reached: Tensor) -> Tensor:
        values = _linear(x, self.leaf_weight, self.leaf_bias)
        # The largest value that counts becomes 0, so that what counts neither overflows nor all vanishes.
        top = values.detach().masked_fill(reached == 0, -torch.inf).amax((1, 2), keepdim=True)
        return (reached * (values - top).clamp(max=0).exp()).sum(1)


def smooth_step(x: Tensor) -> Tensor:
    """A cubic from 0 to 1 between -1/2 and 1/2, flat at both ends and constant outside."""
    x = x.clamp(-0.5, 0.5)
    return 0.5 + x * (1.5 - 2 * x.square())


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    wider = wide(x)
    with without_autocast(x):
        return torch.einsum("tw,knw->tkn", wider, weight.to(wider.dtype)) + bias
