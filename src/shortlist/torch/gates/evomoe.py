"""EvoMoE's gate: dense to sparse, with Gumbel noise so that every expert is tried."""

import torch
from torch import Tensor

from shortlist.torch.gates.base import AnnealedGate, Routing
from shortlist.torch.gates.temperature import above_threshold


class EvoMoE(AnnealedGate):
    """Gumbel-softmax at a falling temperature; experts above a rising threshold (https://arxiv.org/abs/2112.14397).

    Like `Temperature`, with Gumbel noise on the logits in training. The number of experts differs from token
    to token. Weights add up to one. Gives the losses `load_balance` and `entropy`.

    Parameters
    ----------
    width, experts, k, start, end
        See `AnnealedGate`.
    """

    gives = frozenset({"load_balance", "entropy"})

    def select(self, scores: Tensor) -> Routing:
        """The weights above the threshold; scores are noisy in training."""
        noisy = scores + gumbel_like(scores) if self.training else scores
        return above_threshold(noisy, self.temperature, self.annealed / (self.k + 1), self.group)


def gumbel_like(x: Tensor) -> Tensor:
    """Standard Gumbel noise in the shape of x, drawn in float32."""
    return -torch.empty_like(x, dtype=torch.float32).exponential_().log().to(x.dtype)
