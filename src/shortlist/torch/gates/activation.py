"""The dense-to-sparse gate with a nonlinearity between router and softmax."""

from torch import Tensor, nn

from shortlist.errors import UsageError
from shortlist.torch.gates.base import AnnealedGate, Routing
from shortlist.torch.gates.temperature import above_threshold

ACTIVATIONS = {"gelu": nn.functional.gelu, "sigmoid": nn.functional.sigmoid, "tanh": nn.functional.tanh}


class Activation(AnnealedGate):
    """`softmax(activation(router(x)) / temperature)`, annealed as `Temperature` (https://arxiv.org/abs/2401.13875).

    With a linear router, a change of temperature can cancel a change of router weights, so that both are hard
    to estimate from data; the nonlinearity separates them. Weights add up to one. Gives the losses
    `load_balance` and `entropy`.

    Parameters
    ----------
    width, experts, k, start, end
        See `AnnealedGate`.
    activation
        One of `ACTIVATIONS`.
    """

    gives = frozenset({"load_balance", "entropy"})

    def __init__(
        self,
        width: int,
        experts: int,
        k: int = 2,
        *,
        activation: str = "gelu",
        start: float = 2.0,
        end: float = 0.3,
    ):
        super().__init__(width, experts, k, start=start, end=end)
        if activation not in ACTIVATIONS:
            raise UsageError(f"no activation {activation!r} for a gate; there are {', '.join(ACTIVATIONS)}")
        self.activation = activation

    def estimate(self, x: Tensor) -> Tensor:
        """Activated router logits."""
        return ACTIVATIONS[self.activation](self.computed(self.router, x))

    def select(self, scores: Tensor) -> Routing:
        """The weights above the threshold."""
        return above_threshold(scores, self.temperature, self.annealed / (self.k + 1), self.group)
