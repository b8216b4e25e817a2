"""Fused experts in 8 or 4 bits, in GGUF's block formats: fused when quantized, when saved and when run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gguf
import torch
from torch import Tensor, nn

from shortlist import _native
from shortlist.errors import UsageError
from shortlist.torch.blocks import find_blocks
from shortlist.torch.dispatchers import Segments
from shortlist.torch.experts import ExpertBank, Experts
from shortlist.torch.moe import moe_layers
from shortlist.torch.native_threads import torch_workers
from shortlist.torch.segments import Frozen, Matrices, Work, frozen_ffn, products

METHOD = "shortlist_experts"
"""`quant_method` in the `quantization_config` of a model with quantized experts."""
GROUP = 32
TYPES = {8: gguf.GGMLQuantizationType.Q8_0, 4: gguf.GGMLQuantizationType.Q4_0}


class QuantizedExperts(ExpertBank):
    """Experts whose weights are 8-bit or 4-bit codes with a float16 scale for every 32 inputs.

    Without gradients the native kernels compute, with 8-bit activations as in the native runtime. They keep
    a second, packed copy of the codes of each expert that was chosen so far. With gradients, the matrices of
    the chosen experts are unpacked one after another. Gradients reach states and routing weights, not codes.

    Parameters
    ----------
    count, width, hidden, activation, gated
        The settings of `Experts`. Width and hidden must be multiples of 32.
    bits
        8 or 4.

    Attributes
    ----------
    gate_up_proj, down_proj : uint8
        The matrices of `Experts` (`up_proj` without gates), with a Q8_0 or Q4_0 block of 34 or 18 bytes for
        every 32 inputs.

    Raises
    ------
    UsageError
        `bits` is neither 8 nor 4, or a size is no multiple of 32.
    """

    gate_up_proj: Tensor
    up_proj: Tensor
    down_proj: Tensor

    def __init__(
        self,
        count: int,
        width: int,
        hidden: int,
        activation: str = "silu",
        gated: bool = True,
        bits: int = 8,
    ):
        super().__init__(count, width, activation, gated)
        if bits not in TYPES:
            raise UsageError(f"experts are quantized to 8 or 4 bits, not {bits}")
        if width % GROUP or hidden % GROUP:
            raise UsageError(
                f"quantized experts need a width and hidden size of multiples of {GROUP}, "
                f"not {width} and {hidden}"
            )
        self.hidden = hidden
        self.bits = bits
        self.up_name = "gate_up_proj" if gated else "up_proj"
        block = gguf.GGML_QUANT_SIZES[TYPES[bits]][1]
        for name, rows, columns in (
            (self.up_name, (1 + gated) * hidden, width),
            ("down_proj", width, hidden),
        ):
            codes = torch.zeros(count, rows, columns // GROUP * block, dtype=torch.uint8)
            self.register_parameter(name, nn.Parameter(codes, requires_grad=False))
        self._rows = PackedRows()

    @classmethod
    @torch.no_grad()
    def of(cls, experts: Experts, bits: int = 8) -> QuantizedExperts:
        """Quantize the weights of experts, one expert at a time."""
        made = cls(experts.count, experts.width, experts.hidden, experts.activation, experts.gated, bits)
        for name, source in zip((made.up_name, "down_proj"), experts.matrices(), strict=True):
            for codes, matrix in zip(made.get_parameter(name), source, strict=True):
                if not matrix.isfinite().all():
                    raise UsageError("experts with weights that are not finite cannot be quantized")
                values = matrix.float().cpu().numpy()
                codes.copy_(torch.from_numpy(gguf.quants.quantize(values, TYPES[bits])))
        return made.to(source.device)

    @property
    def base_layer(self) -> nn.Module:
        """The module itself. peft finds modules by their parameters, and reads this property from them."""
        raise UsageError(
            "quantized experts take no adapter: leave them out of target_parameters, "
            "or train before quantize_experts"
        )

    def matrices(self) -> Matrices:
        """No matrices: codes cannot be trained."""
        return ()

    def frozen(self) -> Frozen:
        """The experts' matrices, each unpacked on access."""
        return _Unpacked(self.get_parameter(self.up_name), self.bits), _Unpacked(self.down_proj, self.bits)

    def compute(self, segments: Segments, matrices: Matrices) -> Tensor:
        work = Work(segments.rows, segments.load.tolist(), self.activation, self.gated)
        x, weights = segments.x, segments.weights
        gradients = torch.is_grad_enabled() and (x.requires_grad or weights.requires_grad)
        if gradients or x.device.type != "cpu":
            return frozen_ffn(x, weights, work, self.frozen())
        chosen = [e if count else None for e, count in enumerate(work.load)]
        with torch_workers():
            ups, downs = ([self._packed(name, e) for e in chosen] for name in (self.up_name, "down_proj"))
            return products(x, weights, work, ups, downs, times=_native_times)

    def _packed(self, name: str, expert: int | None) -> _native.Rows | None:
        """Packed rows for the native kernels; made and kept when a token first chooses the expert."""
        if expert is None:
            return None
        codes = self.get_parameter(name)
        rows = self._rows.of(name, codes)
        if expert not in rows:
            blocks = codes[expert]
            columns = self.width if name == self.up_name else self.hidden
            rows[expert] = _native.Rows.pack(
                blocks.numpy().reshape(-1), TYPES[self.bits].name, len(blocks), columns, tiled=True
            )
        return rows[expert]


class PackedRows:
    """A cache of packed rows by expert, which is dropped when the codes change."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[tuple[int, int], dict[int, _native.Rows]]] = {}

    def of(self, name: str, codes: Tensor) -> dict[int, _native.Rows]:
        """The packed rows for the codes of this name; empty where the tensor was replaced or written to."""
        now = codes.data_ptr(), codes._version
        if name not in self._rows or self._rows[name][0] != now:
            self._rows[name] = now, {}
        return self._rows[name][1]

    def __getstate__(self) -> dict:
        return {"_rows": {}}  # a copy packs its own


class _Unpacked(Sequence[Tensor]):
    """A sequence of matrices [rows, columns], unpacked from blocks [experts, rows, bytes]."""

    def __init__(self, blocks: Tensor, bits: int):
        self.blocks = blocks
        self.bits = bits

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, expert) -> Tensor:
        return unpack(self.blocks[expert], self.bits)


def unpack(blocks: Tensor, bits: int) -> Tensor:
    """Dequantize Q8_0 or Q4_0 blocks [rows, bytes] to float32 [rows, columns]."""
    block = gguf.GGML_QUANT_SIZES[TYPES[bits]][1]
    blocks = blocks.view(len(blocks), -1, block)
    scales, codes = blocks[..., :2].view(torch.float16).float(), blocks[..., 2:]
    if bits == 8:
        values = codes.view(torch.int8).float()
    else:
        values = torch.cat([codes & 15, codes >> 4], dim=-1).float().sub_(8)
    return values.mul_(scales).flatten(1)


def quantize_experts(model: nn.Module, bits: int = 8) -> None:
    """Quantize the experts of all mixture-of-experts layers of a model, or none.

    The key `quantization_config` of the model's configuration then says so: `load_quantized` loads the files
    of `save_pretrained`, and other readers refuse them.

    Parameters
    ----------
    model
        A model whose mixture layers are `MoE`.
    bits
        8 or 4.

    Raises
    ------
    UsageError
        The model has no such layers, or experts that cannot be quantized. The model is then unchanged.
    """
    layers = list(moe_layers(model))
    if not layers:
        raise UsageError(f"{type(model).__name__} has no mixture-of-experts layers: patch it first")
    made: dict[nn.Module, QuantizedExperts] = {}
    for layer in layers:
        if not isinstance(layer.experts, Experts):
            raise UsageError(f"only Experts can be quantized, not {type(layer.experts).__name__}")
        if layer.experts not in made:  # layers may share experts
            made[layer.experts] = QuantizedExperts.of(layer.experts, bits)
    for layer in layers:
        layer.experts = made[layer.experts]
    config: Any = getattr(model, "config", None)
    if hasattr(config, "model_type"):
        blocks = [getattr(layer, name) for layer, name in find_blocks(model)]
        quantized = [index for index, block in enumerate(blocks) if block in layers]
        config.quantization_config = {"quant_method": METHOD, "bits": bits, "layers": quantized}


def _native_times(rows: _native.Rows, x: Tensor) -> Tensor:
    """The same as `segments.times`, for packed rows."""
    y = rows.matmul(x.float().contiguous().numpy())
    return torch.from_numpy(y).t().to(x.dtype)
