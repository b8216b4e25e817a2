"""The interface of a dispatcher: it brings token states to their experts, and the outputs back."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from shortlist.torch.gates import Routing


@dataclass(frozen=True)
class Segments:
    """States, and the rows that each expert computes. Rows are copied only when an expert computes them.

    Parameters
    ----------
    x : [rows, width]
        States.
    rows : int64 [pairs]
        Rows of `x`, sorted by expert: the first `load[0]` are those of the first expert that is held here.
    weights : [pairs]
        Factor of the expert's output.
    load : int64 [experts held here]
        Number of pairs that each expert computes.
    origin
        Data that the dispatcher needs in `combine`.
    """

    x: Tensor
    rows: Tensor
    weights: Tensor
    load: Tensor
    origin: Any = None


def sorted_by_expert(
    x: Tensor, tokens: Tensor, experts: Tensor, weights: Tensor, load: Tensor, origin: Any = None
) -> Segments:
    """Make segments from pairs [pairs] of a row of `x` and an expert, given in any order."""
    order = experts.argsort(stable=True)
    return Segments(x, tokens[order], weights[order], load, origin)


class Dispatcher(ABC):
    """Moves states to the experts, and outputs back.

    A dispatcher says which experts a process holds. Where other processes hold some, `dispatch` receives
    states of other processes and `combine` sends the sums back; all processes must then call the layer
    equally often.
    """

    def held(self, experts: int) -> range:
        """The experts that this process holds, of `experts` in all.

        Raises
        ------
        UsageError
            The experts cannot be distributed evenly over the processes.
        """
        return range(experts)

    @abstractmethod
    def dispatch(self, x: Tensor, routing: Routing) -> Segments:
        """Bring states [tokens, width] and their pairs to the processes that hold the experts."""

    @abstractmethod
    def combine(self, y: Tensor, segments: Segments) -> Tensor:
        """Bring the experts' weighted sums [rows, width] back: [tokens, width] for this process's tokens."""
