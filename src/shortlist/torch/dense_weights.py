"""Fills experts with the weights of a dense feed-forward layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def fill_expert(experts: Any, expert: int, mlp: Any, neurons: Tensor) -> None:
    """Copy the weights of the given neurons of a dense layer into an expert."""
    experts.gate_up_proj[expert] = torch.cat([mlp.gate_proj.weight[neurons], mlp.up_proj.weight[neurons]])
    experts.down_proj[expert] = mlp.down_proj.weight[:, neurons]


@torch.no_grad()
def fill_copies(experts: Any, mlp: Any, masked: float, draw: torch.Generator | None = None) -> None:
    """Make every expert a copy of a dense layer; a share `masked` of its neurons, drawn anew, starts at zero.

    Only the output weights of these neurons are zero, so training grows them again.
    """
    neurons = experts.hidden
    for expert in range(experts.count):
        fill_expert(experts, expert, mlp, torch.arange(neurons))
        off = torch.randperm(neurons, generator=draw)[: round(masked * neurons)]
        experts.down_proj[expert, :, off] = 0


@torch.no_grad()
def fill_shared(shared: Any, mlp: Any, neurons: Tensor) -> None:
    """Copy the weights of the given neurons of a dense layer into the shared expert."""
    shared.gate_proj.weight.copy_(mlp.gate_proj.weight[neurons])
    shared.up_proj.weight.copy_(mlp.up_proj.weight[neurons])
    shared.down_proj.weight.copy_(mlp.down_proj.weight[:, neurons])
