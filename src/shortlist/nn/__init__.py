"""PyTorch: gates, mixture-of-experts layers, patching of `transformers` models. Needs `shortlist[torch]`."""

from shortlist.nn.dispatch import Dispatcher, LocalDispatcher
from shortlist.nn.experts import Experts
from shortlist.nn.gates import GATES, Gate, Routing, SoftmaxTopK
from shortlist.nn.moe import MoE, after_step, auxiliary_losses, moe_layers, set_progress
from shortlist.nn.patch import Patch, patch

__all__ = [
    "GATES",
    "Dispatcher",
    "Experts",
    "Gate",
    "LocalDispatcher",
    "MoE",
    "Patch",
    "Routing",
    "SoftmaxTopK",
    "after_step",
    "auxiliary_losses",
    "moe_layers",
    "patch",
    "set_progress",
]
