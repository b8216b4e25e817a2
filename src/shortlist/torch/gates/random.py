"""Random experts: the baseline that every gate has to beat."""

import torch
from torch import Tensor

from shortlist.torch.gates.base import Gate, Routing, checked_k
from shortlist.torch.gates.hash import equal_top_k
from shortlist.torch.numerics import wide


class Random(Gate):
    """k experts drawn for every token and every call, each with weight 1/k. Gives no losses.

    A model trained with it shows the loss of the same experts without any specialization. It draws from
    torch's generator, so `torch.manual_seed` repeats the draws.

    Parameters
    ----------
    width, experts
        See `Gate`.
    k
        Experts of a token.
    """

    def __init__(self, width: int, experts: int, k: int = 2):
        super().__init__(width, experts)
        self.k = checked_k(k, experts)

    def estimate(self, x: Tensor) -> Tensor:
        """Random numbers."""
        return torch.rand(len(x), self.experts, device=x.device).to(wide(x).dtype)

    def select(self, scores: Tensor) -> Routing:
        """The k largest scores, with equal weights."""
        return equal_top_k(scores, self.k, scores.dtype)
