"""What a gate is: it estimates a score for every expert, and selects those that compute a token."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Routing:
    """The shortlist of experts for a batch of tokens, as pairs of a token and an expert that computes it.

    Pairs let every gate speak the same language: the number of experts may differ from token to token, and
    a token may have none.

    Parameters
    ----------
    tokens : int64 [pairs]
        In ascending order.
    experts : int64 [pairs]
        No pair occurs twice.
    weights : float [pairs]
        What the expert's output is multiplied with; gradients flow through it to the router.
    shape
        Numbers of tokens and of experts.
    losses
        Auxiliary losses by name, scalars, not yet weighted.
    stats
        What is worth a plot, by name, detached.
    """

    tokens: Tensor
    experts: Tensor
    weights: Tensor
    shape: tuple[int, int]
    losses: dict[str, Tensor] = field(default_factory=dict)
    stats: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of_top_k(cls, weights: Tensor, experts: Tensor, total: int, **rest: dict[str, Tensor]) -> "Routing":
        """From weights and experts [tokens, k], the same number for every token, of `total` experts."""
        tokens = torch.arange(len(experts), device=experts.device).repeat_interleave(experts.shape[1])
        return cls(tokens, experts.flatten(), weights.flatten(), (len(experts), total), **rest)

    @classmethod
    def of_mask(cls, weights: Tensor, mask: Tensor, **rest: dict[str, Tensor]) -> "Routing":
        """From weights [tokens, experts] and the pairs that a mask of the same shape keeps."""
        tokens, experts = mask.nonzero(as_tuple=True)
        return cls(tokens, experts, weights[tokens, experts], (mask.shape[0], mask.shape[1]), **rest)

    @property
    def load(self) -> Tensor:
        """Pairs of each expert, int64 [experts]."""
        return torch.bincount(self.experts, minlength=self.shape[1])

    def dense(self) -> Tensor:
        """The weights as a matrix [tokens, experts], zero off the shortlist."""
        return self.weights.new_zeros(self.shape).index_put((self.tokens, self.experts), self.weights)


class Gate(nn.Module, ABC):
    """Estimates a score for every expert from token states, and selects.

    Parameters
    ----------
    width
        Of a token's state.
    experts
        How many there are.

    Attributes
    ----------
    progress : float
        From 0, the start of training, to 1, its end: what is annealed follows it. Training sets it
        (`set_progress` of a model does so for all of its gates).
    """

    def __init__(self, width: int, experts: int):
        super().__init__()
        self.width = width
        self.experts = experts
        self.progress = 0.0

    @abstractmethod
    def estimate(self, x: Tensor) -> Tensor:
        """Scores [tokens, experts] of token states [tokens, width]."""

    @abstractmethod
    def select(self, scores: Tensor) -> Routing:
        """The shortlist that scores [tokens, experts] lead to, with weights and losses."""

    def forward(self, x: Tensor, token_ids: Tensor | None = None) -> Routing:
        """The shortlist for states [tokens, width]; `token_ids` [tokens] serve gates that ask for them."""
        return self.select(self.estimate(x))

    def after_step(self) -> None:
        """To be called after every step of the optimizer: gates that balance without a loss adjust here."""
