"""Top-k of scores minus prices, which follow demand within a batch: equal loads without a loss."""

import torch
from torch import Tensor

from shortlist.nn.gates.base import LinearGate, Routing, added_up, checked_k


class DualPrice(LinearGate):
    """Routing as an online linear program, solved by dual descent in one pass (https://arxiv.org/abs/2003.02513).

    Tokens arrive in groups. Each takes the k experts whose logit is furthest above their price; then
    each price moves in proportion to the excess of its expert's load over k / experts, but not below zero. So
    load is balanced within the batch, and a token's choice depends on tokens before it alone. While training
    the prices go on from batch to batch, at inference they stay as they are. Prices take part in the choice
    alone: weights are the softmax weights of the chosen, which add up to one for k > 1. Gives no losses.

    Parameters
    ----------
    width, experts
        As for every gate.
    k
        Experts of a token.
    rate
        How far a price moves for a load of twice the mean, in standard deviations of an expert's logit
        between tokens: the unit in which prices sort tokens, whatever the size of the logits.
    groups
        How many groups a batch is cut into.
    """

    price: Tensor
    shift: Tensor

    def __init__(self, width: int, experts: int, k: int = 2, *, rate: float = 0.1, groups: int = 8):
        super().__init__(width, experts)
        self.k = checked_k(k, experts)
        self.rate = rate
        self.groups = groups
        self.register_buffer("price", torch.zeros(experts))
        # Added in `after_step`, so that the same forward pass, if run again, chooses the same experts.
        self.register_buffer("shift", torch.zeros(experts), persistent=False)

    def select(self, scores: Tensor) -> Routing:
        """Softmax weights, in float32, of the k logits that are furthest above their price."""
        logits = scores.float()
        experts = self._pass(logits.detach()) if self.training else self._best(logits, self.price)
        weights = added_up(logits.softmax(-1).gather(-1, experts))
        return Routing.of_top_k(
            weights.to(scores.dtype), experts, self.experts, stats={"price": self.price.clone()}
        )

    def after_step(self) -> None:
        """Prices are what they became in the last batch."""
        self.price += self.shift
        self.shift.zero_()

    def _best(self, logits: Tensor, price: Tensor) -> Tensor:
        return (logits - price).topk(self.k, dim=-1).indices

    def _pass(self, logits: Tensor) -> Tensor:
        price = self.price.clone()
        chosen = []
        for group in logits.tensor_split(self.groups):
            chosen.append(self._best(group, price))
            if len(group):  # there may be fewer tokens than groups
                load = torch.bincount(chosen[-1].flatten(), minlength=self.experts)
                excess = load * self.experts / (len(group) * self.k) - 1
                spread = (group - group.mean(0)).square().mean(0).sqrt().mean()
                price = (price + self.rate * spread * excess).clamp(min=0)
        self.shift.copy_(price - self.price)
        return torch.cat(chosen)
