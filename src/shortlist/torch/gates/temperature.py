"""A softmax with falling temperature and rising threshold: all experts at first, few at the end."""

from typing import Any

from torch import Tensor

from shortlist.torch.gates.base import AnnealedGate, Routing
from shortlist.torch.losses import entropy, load_balance
from shortlist.torch.numerics import wide


class Temperature(AnnealedGate):
    """The dense-to-sparse gate, `softmax(router(x) / temperature)` (https://arxiv.org/abs/2401.13875).

    A token is computed by the experts whose weights are above a threshold. In training the temperature falls
    from `start` to `end` and the threshold rises from 0 to 1 / (k + 1), which at most k weights can exceed.
    Weights add up to one. Gives the losses `load_balance` and `entropy`.

    Parameters
    ----------
    width, experts, k, start, end
        See `AnnealedGate`.
    """

    gives = frozenset({"load_balance", "entropy"})

    def select(self, scores: Tensor) -> Routing:
        """The weights above the threshold."""
        return above_threshold(scores, self.temperature, self.annealed / (self.k + 1), self.group)


def above_threshold(logits: Tensor, temperature: Tensor, threshold: Tensor, group: Any = None) -> Routing:
    """Keep the weights of `softmax(logits / temperature)` above the threshold, and always the largest."""
    probabilities = (wide(logits) / temperature).softmax(-1)
    kept = (probabilities > threshold) | (probabilities == probabilities.amax(-1, keepdim=True))
    weights = probabilities * kept
    weights = weights / weights.sum(-1, keepdim=True)
    losses = {
        "load_balance": load_balance(probabilities, kept.nonzero()[:, 1], group),
        "entropy": entropy(probabilities),
    }
    stats = {"temperature": temperature, "threshold": threshold}
    return Routing.of_mask(weights.to(logits.dtype), kept, losses=losses, stats=stats)
