"""What a dispatcher is: it brings token states to their experts, and the experts' outputs back."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

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
        Rows of `x`, sorted by expert: the first `load[0]` are those of the first expert that is held here.
    weights : [pairs]
        What the expert's output is multiplied with.
    load : int64 [experts held here]
        How many pairs each expert computes.
    origin
        What the dispatcher that made the segments needs for the way back.
    """

    x: Tensor
    rows: Tensor
    weights: Tensor
    load: Tensor
    origin: Any = None


def sorted_by_expert(
    x: Tensor, tokens: Tensor, experts: Tensor, weights: Tensor, load: Tensor, origin: Any = None
) -> Segments:
    """The segments of pairs [pairs] of a row of `x` and an expert, in any order."""
    order = experts.argsort(stable=True)
    return Segments(x, tokens[order], weights[order], load, origin)


class Dispatcher(ABC):
    """Moves states to the experts and back.

    A dispatcher says which experts a process holds. Where some are held elsewhere, `dispatch` brings the
    states of other processes here, and `combine` sends the sums back; all processes then call the layer
    equally often.
    """

    def held(self, experts: int) -> range:
        """The experts that this process holds, of `experts` in all.

        Raises
        ------
        UsageError
            They cannot be shared out.
        """
        return range(experts)

    @abstractmethod
    def dispatch(self, x: Tensor, routing: Routing) -> Segments:
        """States [tokens, width] and their pairs, where the experts are."""

    @abstractmethod
    def combine(self, y: Tensor, segments: Segments) -> Tensor:
        """From the experts' weighted sums [rows, width] to those of the tokens, [tokens, width]."""
