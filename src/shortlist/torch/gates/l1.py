"""A soft bottleneck: units are on by as much as their logit is positive, and a loss turns them off."""

from torch import Tensor

from shortlist.torch.gates.base import LinearGate, Routing
from shortlist.torch.losses import l1


class L1(LinearGate):
    """ReLU of the logits, with the loss `l1` to be weighted (https://arxiv.org/abs/2404.03323).

    The number of units differs between tokens, and a token may have none. Weights are whatever is positive;
    they add up to what the task needs.

    Parameters
    ----------
    width, experts
        As for every gate.
    """

    gives = frozenset({"l1"})

    def select(self, scores: Tensor) -> Routing:
        """The positive scores."""
        weights = scores.relu()
        return Routing.of_mask(weights, weights > 0, losses={"l1": l1(weights)})
