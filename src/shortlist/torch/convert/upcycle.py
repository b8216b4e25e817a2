"""Makes experts of copies of the dense feed-forward layer that differ; in the end a token uses one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from shortlist.torch import moe_layers
from shortlist.torch.convert.base import (
    Converted,
    ConvertOptions,
    Method,
    Report,
    Text,
    block_of,
    last_layers,
    neurons_of,
    refuse_active,
)
from shortlist.torch.converted import GateConfig, MoEConfig, install, make_layer
from shortlist.torch.dense_weights import fill_copies
from shortlist.torch.gates import EvoMoE

MASKED = 0.1  # share of an expert's neurons that start at zero, drawn for each expert


class Upcycle(Method):
    """Experts evolve from one dense layer, and the gate from dense to sparse.

    After EvoMoE (https://arxiv.org/abs/2112.14397).

    Every expert is the dense layer without a tenth of its neurons, drawn for each expert; training grows them
    again. In healing, tokens use all experts at first and one at the end, with weight 1.
    """

    experts = 4
    refits = False
    text_weight = 1.0

    def convert(self, model: Any, text: Text, options: ConvertOptions, report: Report) -> Converted:
        refuse_active(options, "upcycle")
        layers, neurons = last_layers(model, options), neurons_of(model)
        gate = GateConfig("softmax", k=1, normalize=True)
        config = MoEConfig(
            "upcycle", options.experts or self.experts, neurons, 0, gate, ternary=False, layers=layers
        )
        draw = torch.Generator().manual_seed(options.seed)
        torch.manual_seed(options.seed)
        blocks = {}
        for index in layers:
            mlp = block_of(model, index)
            block = blocks[index] = make_layer(config, mlp)
            fill_copies(block.experts, mlp, MASKED, draw)
        install(model, config, blocks)
        report("convert", 1.0)
        return Converted(model, config)

    def trained(self, model: Any) -> list[torch.nn.Parameter]:
        """The experts and their gates."""
        return [parameter for layer in moe_layers(model) for parameter in layer.parameters()]

    @contextmanager
    def healing(self, converted: Converted) -> Iterator[None]:
        """Replace the gates by those of EvoMoE with the same routers."""
        layers = list(moe_layers(converted.model))
        kept = [layer.gate for layer in layers]
        for layer in layers:
            gate: Any = EvoMoE(layer.gate.width, layer.gate.experts, k=1)
            gate.router = layer.gate.router
            layer.gate = gate.train()
        try:
            yield
        finally:
            for layer, gate in zip(layers, kept, strict=True):
                layer.gate = gate
