"""Measures a converted model: perplexity, parameters, bytes per token."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shortlist.torch import MoE, moe_layers
from shortlist.torch.converted import MoEConfig

BATCH = 4  # sequences in one pass
STORED, KEPT = 2, 4  # bytes of a weight; bytes of a scale or of a gate's weight


@dataclass(frozen=True)
class Measured:
    """A model's measurements on a text.

    Attributes
    ----------
    perplexity : float
    parameters : int
        The number of stored parameters.
    active_parameters, bytes_per_token : float
        Parameters and bytes that a token reads, with the head; matrices in bfloat16, or packed to 2 bits.
    active_ffn : float
        Feed-forward neurons that a token uses, as a share of the dense model's; mean over layers.
    """

    perplexity: float
    parameters: int
    active_parameters: float
    bytes_per_token: float
    active_ffn: float


@torch.no_grad()
def measure(model: Any, ids: Tensor, config: MoEConfig | None = None) -> Measured:
    """Measure a dense or a converted model on sequences [sequences, length]."""
    layers: list[Any] = list(moe_layers(model))
    pairs = dict.fromkeys(layers, 0)

    def count(layer: MoE, *_: Any) -> None:
        assert layer.routing is not None
        pairs[layer] += len(layer.routing.experts)

    handles = [layer.register_forward_hook(count) for layer in layers]
    try:
        losses = [_losses(model, part) for part in ids.split(BATCH)]
    finally:
        for handle in handles:
            handle.remove()
    per_token = [pairs[layer] / ids.numel() for layer in layers]

    outside = _size(model.parameters()) - sum(_size(layer.parameters()) for layer in layers)
    if not model.config.tie_word_embeddings:
        outside -= model.get_input_embeddings().weight.numel()  # a token reads one row
    active, read = outside, STORED * outside
    for layer, chosen in zip(layers, per_token, strict=True):
        shared = _size(layer.shared_expert.parameters()) if layer.shared_expert is not None else 0
        gate, expert = (
            _size(layer.gate.parameters()),
            _size(layer.experts.parameters()) // layer.experts.count,
        )
        active += shared + gate + chosen * expert
        packed = config is not None and config.ternary
        scales = 2 * layer.experts.hidden + layer.experts.width
        read += (
            STORED * shared
            + KEPT * gate
            + chosen * (expert / 4 + KEPT * scales if packed else STORED * expert)
        )
    return Measured(
        perplexity=torch.cat(losses).double().mean().exp().item(),
        parameters=_size(model.parameters()),
        active_parameters=active,
        bytes_per_token=read,
        active_ffn=_active_ffn(model, config, per_token),
    )


def _losses(model: Any, ids: Tensor) -> Tensor:
    logits = model(ids, use_cache=False).logits[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")


def _size(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _active_ffn(model: Any, config: MoEConfig | None, per_token: list[float]) -> float:
    if config is None:
        return 1.0
    neurons, layers = model.config.intermediate_size, model.config.num_hidden_layers
    mixtures = sum(config.shared_width + chosen * config.expert_width for chosen in per_token)
    return (mixtures / neurons + layers - len(config.layers)) / layers
