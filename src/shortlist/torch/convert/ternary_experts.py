"""Keeps the dense feed-forward layer for every token, and adds experts with ternary weights beside it."""

from __future__ import annotations

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
from shortlist.torch.dense_weights import fill_expert, fill_shared
from shortlist.torch.ternary import make_ternary


class TernaryExperts(Method):
    """Mixture of ternary experts (MoTE, https://arxiv.org/abs/2506.14435).

    Experts begin with gates and ups of the dense layer. Their down matrices are zero, so the model first
    computes the same as the dense one. The shared expert is not trained.

    Parameters
    ----------
    ternary
        False keeps the experts' weights unrounded, for comparison.
    expert_width
        Neurons of an expert; None: as many as the dense layer has.
    """

    experts = 4
    refits = False
    text_weight = 1.0

    def __init__(self, *, ternary: bool = True, expert_width: int | None = None):
        self.ternary = ternary
        self.expert_width = expert_width

    def convert(self, model: Any, text: Text, options: ConvertOptions, report: Report) -> Converted:
        refuse_active(options, "ternary")
        layers, neurons = last_layers(model, options), neurons_of(model)
        config = MoEConfig(
            method="ternary",
            experts=options.experts or self.experts,
            expert_width=self.expert_width or neurons,
            shared_width=neurons,
            gate=GateConfig("softmax", k=1, normalize=False),
            ternary=self.ternary,
            layers=layers,
        )
        torch.manual_seed(options.seed)
        blocks: dict[int, Any] = {}
        for index in layers:
            mlp = block_of(model, index)
            block: Any = make_layer(config, mlp)
            blocks[index] = block
            fill_shared(block.shared_expert, mlp, torch.arange(neurons))
            for e in range(config.experts):
                fill_expert(block.experts, e, mlp, torch.randperm(neurons)[: config.expert_width])
            torch.nn.init.zeros_(block.experts.down_proj)
            if self.ternary:
                make_ternary(block.experts)
        install(model, config, blocks)
        report("convert", 1.0)
        return Converted(model, config)

    def trained(self, model: Any) -> list[torch.nn.Parameter]:
        """The routed experts and their gates."""
        return [
            parameter
            for layer in moe_layers(model)
            for part in (layer.experts, layer.gate)
            for parameter in part.parameters()
        ]
