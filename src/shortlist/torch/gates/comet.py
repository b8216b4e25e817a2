"""COMET: k trees over the experts. A trained tree sends a token to one leaf; other weights are exactly 0."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from shortlist.torch.gates.base import Gate, Routing, checked_k
from shortlist.torch.losses import entropy, load_balance
from shortlist.torch.numerics import wide, without_autocast


class Comet(Gate):
    """k trees that split by a smooth step (https://arxiv.org/abs/2306.02824).

    A node sends a share of the token to its left child and the rest to its right child. The share is a smooth
    step of a linear function of the token, exactly 0 or 1 outside a window. So trees begin soft, with all
    experts, and end hard, with one leaf each, and there is a gradient at every stage.

    An expert's weight is the sum over trees of the share that reaches its leaf, times the exponential of a
    linear function of the token. Weights are normalized to add up to one. Where all trees are hard, at most k
    experts remain. Gives two losses: `entropy` of the shares at the leaves, summed over trees, hardens the
    trees; without `load_balance`, hard trees tend to agree on one or two experts for all tokens.

    Parameters
    ----------
    width, experts
        See `Gate`.
    k
        Number of trees, and the largest number of experts of a token once trees are hard.
    window
        Width of the smooth step; the paper's gamma.
    """

    gives = frozenset({"entropy", "load_balance"})

    def __init__(self, width: int, experts: int, k: int = 2, *, window: float = 1.0):
        super().__init__(width, experts)
        self.k = checked_k(k, experts)
        self.window = window
        small = window / 100  # all shares begin near a half
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
        """Weights before normalization; exact zeros off the shortlist."""
        return self._masses(x, self.reached(x))

    def select(self, scores: Tensor) -> Routing:
        """The nonzero weights, normalized."""
        weights = wide(scores)
        weights = weights / weights.sum(-1, keepdim=True)
        return Routing.of_mask(weights.to(scores.dtype), scores > 0)

    def reached(self, x: Tensor) -> Tensor:
        """Share of each token at each tree's leaves, float32 or wider [tokens, trees, experts].

        Nodes are numbered as in a heap: leaves have the numbers from `experts - 1` on.
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
        # The largest exponent of a reached leaf becomes 0: weights neither overflow nor all vanish.
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
