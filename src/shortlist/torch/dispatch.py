"""Dispatchers bring token states to their experts and the experts' outputs back."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from shortlist.torch.gates import Routing


@dataclass(frozen=True)
class Segments:
    """States, and which of them each expert computes. Nothing is copied until an expert needs it.

    Parameters
    ----------
    x : [rows, width]
        States.
    rows : int64 [pairs]
        Rows of `x`, sorted by expert: the first `load[0]` are those of expert 0.
    weights : [pairs]
        What the expert's output is multiplied with.
    load : int64 [experts]
        How many pairs are each expert's.
    """

    x: Tensor
    rows: Tensor
    weights: Tensor
    load: Tensor


class Dispatcher(ABC):
    """Moves states to experts and back. Where the experts are elsewhere, so do the states go."""

    @abstractmethod
    def dispatch(self, x: Tensor, routing: Routing) -> Segments:
        """States [tokens, width] and their pairs, where the experts are."""

    @abstractmethod
    def combine(self, y: Tensor, segments: Segments) -> Tensor:
        """From the experts' weighted sums [rows, width] to those of the tokens, [tokens, width]."""


class LocalDispatcher(Dispatcher):
    """All experts are here: dispatch sorts the pairs, and nothing is left to combine. No token is dropped."""

    def dispatch(self, x: Tensor, routing: Routing) -> Segments:
        order = routing.experts.argsort(stable=True)
        return Segments(x, routing.tokens[order], routing.weights[order], routing.load)

    def combine(self, y: Tensor, segments: Segments) -> Tensor:
        return y
