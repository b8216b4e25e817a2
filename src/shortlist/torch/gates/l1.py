"""A soft bottleneck: a unit is on where its logit is positive; a loss turns units off."""

from torch import Tensor

from shortlist.torch.gates.base import LinearGate, Routing
from shortlist.torch.losses import l1


class L1(LinearGate):
    """ReLU of the logits, with the loss `l1`, which the user weights (https://arxiv.org/abs/2404.03323).

    The number of units differs between tokens, and a token may have none. Weights are the positive logits and
    are not normalized.

    Parameters
    ----------
    width, experts
        See `Gate`.
    """

    gives = frozenset({"l1"})

    def select(self, scores: Tensor) -> Routing:
        """The positive scores."""
        weights = scores.relu()
        return Routing.of_mask(weights, weights > 0, losses={"l1": l1(weights)})
