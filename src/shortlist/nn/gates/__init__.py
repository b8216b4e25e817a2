"""Gates, one file each: token states in, a shortlist of experts with weights out."""

from shortlist.nn.gates.base import Gate, Routing
from shortlist.nn.gates.softmax import SoftmaxTopK

GATES: dict[str, type[Gate]] = {
    "softmax": SoftmaxTopK,
}

__all__ = ["GATES", "Gate", "Routing", "SoftmaxTopK"]
