"""The quantization method of `quantize_experts`, in the form that `transformers` asks for.

Importing this file registers the method with `from_pretrained`.
"""

from typing import Any

from torch import nn
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from shortlist.errors import UsageError
from shortlist.torch.adoption import adopt, around
from shortlist.torch.blocks import find_blocks
from shortlist.torch.patching import patch
from shortlist.torch.quantized_experts import METHOD, TYPES, QuantizedExperts


@register_quantization_config(METHOD)
class ExpertsConfig(QuantizationConfigMixin):
    """`quantization_config` of a model whose experts are quantized.

    Parameters
    ----------
    bits
        8 or 4.
    layers
        Indices of the decoder layers with quantized experts.
    """

    def __init__(self, bits: Any = None, layers: Any = None, **unknown: Any):
        unknown.pop("quant_method", None)
        whole = isinstance(layers, list) and all(type(index) is int for index in layers)
        if bits not in TYPES or not whole or unknown:
            raise UsageError(
                "its quantization_config is not one that quantize_experts writes: quantize it again"
            )
        self.quant_method: Any = METHOD
        self.bits = bits
        self.layers = layers


@register_quantizer(METHOD)
class ExpertsQuantizer(HfQuantizer):
    """Puts quantized experts into blocks before weights are loaded, and adopts the blocks afterwards."""

    quantization_config: Any  # an ExpertsConfig

    @property
    def is_trainable(self) -> bool:
        return True  # all but the experts

    def is_serializable(self) -> bool:
        return True

    def param_needs_quantization(self, model: Any, param_name: str, **_: Any) -> bool:
        return False

    def _process_model_before_weight_loading(self, model: Any, **_: Any) -> None:
        for block in self._blocks(model):
            experts = adopt(block).experts
            block.experts = QuantizedExperts(
                experts.count,
                experts.width,
                experts.hidden,  # pyright: ignore[reportArgumentType]
                experts.activation,
                experts.gated,
                self.quantization_config.bits,
            )

    def _process_model_after_weight_loading(self, model: Any, **_: Any) -> None:
        patch(model, lambda _, block: around(block, block.experts), self.quantization_config.layers)  # pyright: ignore[reportArgumentType]

    def _blocks(self, model: nn.Module) -> list[Any]:
        blocks = find_blocks(model)
        if not all(0 <= index < len(blocks) for index in self.quantization_config.layers):
            raise UsageError("its quantization_config names layers that it does not have")
        return [getattr(*blocks[index]) for index in self.quantization_config.layers]
