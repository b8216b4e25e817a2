"""A hard bottleneck: k units are on, and the gradient is that of an annealed Gumbel-softmax."""

from torch import Tensor

from shortlist.nn.gates.base import AnnealedGate, Routing
from shortlist.nn.gates.evomoe import gumbel_like
from shortlist.nn.losses import entropy, load_balance


class Gumbel(AnnealedGate):
    """The k largest of noisy logits, each with weight 1 (Sparse-CBM, https://arxiv.org/abs/2404.03323).

    Weights are 1 in the forward pass and have the gradient of k times a softmax at a temperature that falls
    from `start` to `end` (straight-through). For bottlenecks, whose units are concepts or codes; as a gate of
    experts it adds up their outputs. Gives the losses `load_balance` and `entropy`.

    Parameters
    ----------
    width, experts, k, start, end
        As for every annealed gate; k units are on at all times.
    """

    gives = frozenset({"load_balance", "entropy"})

    def select(self, scores: Tensor) -> Routing:
        """Ones for the k largest scores, noisy while training."""
        noisy = scores + gumbel_like(scores) if self.training else scores
        probabilities = (noisy.float() / self.temperature).softmax(-1)
        soft, units = probabilities.topk(self.k, dim=-1)
        soft = self.k * soft
        weights = 1 + (soft - soft.detach())
        losses = {"load_balance": load_balance(probabilities, units), "entropy": entropy(probabilities)}
        return Routing.of_top_k(
            weights.to(scores.dtype),
            units,
            self.experts,
            losses=losses,
            stats={"temperature": self.temperature},
        )
