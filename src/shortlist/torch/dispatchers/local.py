"""The dispatcher for one process, which holds all experts."""

from torch import Tensor

from shortlist.torch.dispatchers.base import Dispatcher, Segments, sorted_by_expert
from shortlist.torch.gates import Routing


class LocalDispatcher(Dispatcher):
    """Sorts the pairs by expert; `combine` has nothing to do. No token is dropped."""

    def dispatch(self, x: Tensor, routing: Routing) -> Segments:
        return sorted_by_expert(x, routing.tokens, routing.experts, routing.weights, routing.load)

    def combine(self, y: Tensor, segments: Segments) -> Tensor:
        return y
