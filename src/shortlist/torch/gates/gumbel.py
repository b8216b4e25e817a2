"""A hard bottleneck: k units are on; gradients are those of annealed sigmoids."""

from torch import Tensor

from shortlist.torch.gates.base import AnnealedGate, Routing
from shortlist.torch.gates.evomoe import gumbel_like
from shortlist.torch.losses import entropy, load_balance
from shortlist.torch.numerics import wide


class Gumbel(AnnealedGate):
    """The k largest of noisy logits, each with weight 1 (Sparse-CBM, https://arxiv.org/abs/2404.03323).

    Weights are 1 in the forward pass. Their gradient is that of a sigmoid around the boundary of the top k,
    at a temperature that falls from `start` to `end` (straight-through); the gradient of a softmax over many
    units would vanish. The gate is made for bottlenecks, whose units are concepts or codes; over experts it
    adds up their outputs. Gives the losses `load_balance` and `entropy`.

    Parameters
    ----------
    width, experts, k, start, end
        See `AnnealedGate`; k units are on at all times.
    """

    gives = frozenset({"load_balance", "entropy"})

    def select(self, scores: Tensor) -> Routing:
        """Ones for the k largest scores, with noise in training."""
        noisy = wide(scores + gumbel_like(scores) if self.training else scores)
        best, units = noisy.topk(min(self.k + 1, self.experts), dim=-1)
        mark = best[:, -2:].mean(-1, keepdim=True).detach()
        soft = ((best - mark) / self.temperature)[:, : self.k].sigmoid()
        weights = 1 + (soft - soft.detach())
        units = units[:, : self.k]
        probabilities = (noisy / self.temperature).softmax(-1)
        losses = {
            "load_balance": load_balance(probabilities, units, self.group),
            "entropy": entropy(probabilities),
        }
        stats = {"temperature": self.temperature}
        return Routing.of_top_k(weights.to(scores.dtype), units, self.experts, losses=losses, stats=stats)
