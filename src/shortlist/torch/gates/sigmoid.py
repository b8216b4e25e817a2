"""Independent sigmoid scores, balanced by a bias on the selection instead of a loss."""

import torch
from torch import Tensor

from shortlist.torch.gates.base import LinearGate, Routing, added_up, checked_k
from shortlist.torch.gates.tally import Tally
from shortlist.torch.numerics import wide


class Sigmoid(LinearGate):
    """Top-k of sigmoid scores plus a bias, which moves towards equal loads (https://arxiv.org/abs/2408.15664).

    The bias affects the selection only. Weights are the scores, which add up to one for k > 1, so the
    router's gradient comes from the task alone. After every step of the optimizer each expert's bias moves by
    `rate` against the sign of its excess load. Gives no losses.

    Parameters
    ----------
    width, experts
        See `Gate`.
    k
        Experts of a token.
    rate
        Step size of the bias. Long runs use 0.001; a run of a few hundred steps needs more.
    """

    bias: Tensor
    tally: Tally

    def __init__(self, width: int, experts: int, k: int = 2, *, rate: float = 0.001):
        super().__init__(width, experts)
        self.k = checked_k(k, experts)
        self.rate = rate
        self.register_buffer("bias", torch.zeros(experts))
        self.tally = Tally("Sigmoid", load=torch.zeros(experts, dtype=torch.int64))

    @property
    def load(self) -> Tensor:
        """Number of pairs of each expert in this process since the last step: int64 [experts]."""
        return self.tally["load"]

    def select(self, scores: Tensor) -> Routing:
        """Sigmoid weights, in float32, of the k with the largest sigmoid plus bias."""
        values = wide(scores).sigmoid()
        experts = (values.detach() + self.bias).topk(self.k, dim=-1).indices
        weights = added_up(values.gather(-1, experts))
        routing = Routing.of_top_k(
            weights.to(scores.dtype), experts, self.experts, stats={"bias": self.bias.clone()}
        )
        if self.training:
            self.tally.add(scores, load=routing.load)
        return routing

    def adjust(self, *, load: Tensor, **_: Tensor) -> None:
        """Move the bias against each expert's excess load since the last step."""
        excess = load.double() - load.double().mean()
        self.bias -= self.rate * excess.sign()
