"""Top-k of scores minus prices that follow demand within a batch: equal loads without a loss."""

import torch
from torch import Tensor

from shortlist.torch.gates.base import LinearGate, Routing, added_up, checked_k
from shortlist.torch.gates.tally import Tally
from shortlist.torch.numerics import load_of, wide


class DualPrice(LinearGate):
    """Routing as an online linear program, solved by dual descent in one pass (https://arxiv.org/abs/2003.02513).

    A batch is cut into groups of tokens. Each token takes the k experts whose logits are furthest above their
    prices. After a group, each price moves in proportion to the excess of its expert's load over k / experts,
    but not below zero. So load is balanced within the batch, and a token's experts depend only on it and on
    earlier tokens. Prices affect the selection only: weights are the softmax weights of the chosen experts,
    which add up to one for k > 1. Gives no losses.

    In training prices carry over from step to step; at inference they are fixed. Where a step has several
    forward passes (several processes, or gradient accumulation), each starts from the prices of the step
    before, and the next step from the mean of their results, weighted by tokens. That is close to one pass
    over all tokens, but not the same.

    Parameters
    ----------
    width, experts
        See `Gate`.
    k
        Experts of a token.
    rate
        Change of a price at a load of twice the mean, in standard deviations of an expert's logit between
        tokens. With this unit the effect of prices does not depend on the size of the logits.
    groups
        Number of groups into which a batch is cut.
    """

    price: Tensor
    tally: Tally

    def __init__(self, width: int, experts: int, k: int = 2, *, rate: float = 0.1, groups: int = 8):
        super().__init__(width, experts)
        self.k = checked_k(k, experts)
        self.rate = rate
        self.groups = groups
        self.register_buffer("price", torch.zeros(experts))
        # Prices move in `after_step`, so that a forward pass that is run again chooses the same experts.
        self.tally = Tally("DualPrice", shifts=torch.zeros(experts))

    def select(self, scores: Tensor) -> Routing:
        """Softmax weights, in float32, of the k logits that are furthest above their price."""
        logits = wide(scores)
        experts = self._pass(logits.detach()) if self.training else self._best(logits, self.price)
        weights = added_up(logits.softmax(-1).gather(-1, experts))
        return Routing.of_top_k(
            weights.to(scores.dtype), experts, self.experts, stats={"price": self.price.clone()}
        )

    def adjust(self, *, shifts: Tensor, tokens: Tensor, **_: Tensor) -> None:
        """Move the prices by the mean over tokens of their changes in the passes since the last step."""
        self.price += shifts / tokens

    def _best(self, logits: Tensor, price: Tensor) -> Tensor:
        return (logits - price).topk(self.k, dim=-1).indices

    def _pass(self, logits: Tensor) -> Tensor:
        price = self.price.clone()
        chosen = []
        for group in logits.tensor_split(self.groups):
            chosen.append(self._best(group, price))
            if len(group):  # there may be fewer tokens than groups
                load = load_of(chosen[-1].flatten(), self.experts)
                excess = load * self.experts / (len(group) * self.k) - 1
                spread = (group - group.mean(0)).square().mean(0).sqrt().mean()
                move = self.rate * spread.nan_to_num(0, 0, 0) * excess  # no move where states are not finite
                price = (price + move).clamp(min=0)
        self.tally.add(logits, shifts=(price - self.price) * len(logits))
        return torch.cat(chosen)
