"""PyTorch: gates, mixture-of-experts layers, training and conversion. Needs `shortlist[torch]`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shortlist.torch.adoption import adopt
    from shortlist.torch.converted_files import load_converted
    from shortlist.torch.dispatchers import DISPATCHERS, AllGatherDispatcher, Dispatcher, LocalDispatcher
    from shortlist.torch.experts import ExpertBank, Experts, UnequalExperts
    from shortlist.torch.gates import GATES, Gate, Routing, SoftmaxTopK
    from shortlist.torch.moe import MoE, after_step, auxiliary_losses, moe_layers, set_progress
    from shortlist.torch.patching import Patch, patch
    from shortlist.torch.quantized_experts import QuantizedExperts, quantize_experts
    from shortlist.torch.quantized_files import load_quantized
    from shortlist.torch.trainer import GateCallback

__all__ = [
    "DISPATCHERS",
    "GATES",
    "AllGatherDispatcher",
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

# Imported at first use: a training configuration is read without PyTorch, and the Trainer imports slowly.
_HOMES = {
    "AllGatherDispatcher": "dispatchers",
    "DISPATCHERS": "dispatchers",
    "Dispatcher": "dispatchers",
    "ExpertBank": "experts",
    "Experts": "experts",
    "GATES": "gates",
    "Gate": "gates",
    "GateCallback": "trainer",
    "LocalDispatcher": "dispatchers",
    "MoE": "moe",
    "Patch": "patching",
    "QuantizedExperts": "quantized_experts",
    "Routing": "gates",
    "SoftmaxTopK": "gates",
    "UnequalExperts": "experts",
    "adopt": "adoption",
    "after_step": "moe",
    "auxiliary_losses": "moe",
    "load_converted": "converted_files",
    "load_quantized": "quantized_files",
    "moe_layers": "moe",
    "patch": "patching",
    "quantize_experts": "quantized_experts",
    "set_progress": "moe",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'shortlist.torch' has no attribute {name!r}")
    return getattr(import_module(f"shortlist.torch.{_HOMES[name]}"), name)
