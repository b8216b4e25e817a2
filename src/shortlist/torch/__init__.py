"""PyTorch: gates, mixture-of-experts layers, patching of `transformers` models. Needs `shortlist[torch]`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from shortlist.torch.adopt import adopt
from shortlist.torch.converted_files import load_converted
from shortlist.torch.dispatch import Dispatcher, LocalDispatcher
from shortlist.torch.experts import ExpertBank, Experts, UnequalExperts
from shortlist.torch.gates import GATES, Gate, Routing, SoftmaxTopK
from shortlist.torch.moe import MoE, after_step, auxiliary_losses, moe_layers, set_progress
from shortlist.torch.patch import Patch, patch
from shortlist.torch.quantized_experts import QuantizedExperts, quantize_experts
from shortlist.torch.quantized_files import load_quantized

if TYPE_CHECKING:
    from shortlist.torch.trainer import GateCallback

__all__ = [
    "GATES",
    "Dispatcher",
    "ExpertBank",
    "Experts",
    "Gate",
    "GateCallback",
    "LocalDispatcher",
    "MoE",
    "Patch",
    "QuantizedExperts",
    "Routing",
    "SoftmaxTopK",
    "UnequalExperts",
    "adopt",
    "after_step",
    "auxiliary_losses",
    "load_converted",
    "load_quantized",
    "moe_layers",
    "patch",
    "quantize_experts",
    "set_progress",
]


def __getattr__(name: str) -> Any:
    if name != "GateCallback":  # which imports the Trainer, and that takes seconds
        raise AttributeError(f"module 'shortlist.torch' has no attribute {name!r}")
    return import_module("shortlist.torch.trainer").GateCallback
