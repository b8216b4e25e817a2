"""Dispatchers bring token states to their experts and the experts' outputs back."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from shortlist.nn.gates import Routing


@dataclass(frozen=True)
class Segments:
    """Token states sorted by expert.

    Parameters
    ----------
    x : [pairs, width]
        States; a token that several experts compute occurs once for each.
    load : int64 [experts]
        How many of these are each expert's.
    tokens : int64 [pairs]
        Which token each was.
    weights : [pairs]
        What its output is multiplied with.
    count
        Of tokens.
    """

    x: Tensor
    load: Tensor
    tokens: Tensor
    weights: Tensor
    count: int


class Dispatcher(ABC):
    """Moves states to experts and back. Where the experts are elsewhere, so do the states go."""

    @abstractmethod
    def dispatch(self, x: Tensor, routing: Routing) -> Segments:
        """States [tokens, width], sorted by expert as the routing says."""

    @abstractmethod
    def combine(self, y: Tensor, segments: Segments) -> Tensor:
        """The weighted sum of the experts' outputs [pairs, width] for every token: [tokens, width]."""


class LocalDispatcher(Dispatcher):
    """All experts are here: dispatch is a sort, combining a sum. No token is dropped."""

    def dispatch(self, x: Tensor, routing: Routing) -> Segments:
        order = routing.experts.argsort(stable=True)
        tokens = routing.tokens[order]
        return Segments(x[tokens], routing.load, tokens, routing.weights[order], len(x))

    def combine(self, y: Tensor, segments: Segments) -> Tensor:
        weighted = y * segments.weights[:, None].to(y.dtype)
        return torch.zeros_like(y[:1]).expand(segments.count, -1).index_add(0, segments.tokens, weighted)
