"""Layer by layer, fit what the mixtures add to what the dense model adds: least squares, no gradient steps."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from shortlist.nn import MoE
from shortlist.nn.activations import activation_of
from shortlist.training.convert.base import Report
from shortlist.training.convert.walk import Walk

RIDGE = 0.01  # of the mean squared neuron, so that rare neurons stay where they were


@torch.no_grad()
def refit(model: Any, dense: Any, ids: Tensor, report: Report) -> None:
    """Fit the down matrices of a converted model's mixtures to the dense layers, on tokens [sequences, length].

    Each layer sees the hidden states that the mixtures before it lead to, so it makes good for what they lack, as
    layer-wise pruning does. Neurons and routes stay as they are.
    """
    walk, reference = Walk(model, ids), Walk(dense, ids)
    for wanted in reference:
        layer, name = walk.blocks[wanted.index]
        block = getattr(layer, name)
        if isinstance(block, MoE):
            step, _ = walk.try_layer(wanted.index, block)
            assert step.weights is not None
            fit_down(block, active_neurons(block, step.x, step.weights), wanted.y - step.y)
        walk.enter(wanted.index, block)
        report("refit", (wanted.index + 1) / len(walk.blocks))


@torch.no_grad()
def fit_down(block: MoE, neurons: Tensor, lacking: Tensor) -> None:
    """Change the down matrices so that they add what comes nearest to `lacking` [tokens, width].

    Parameters
    ----------
    neurons
        As `active_neurons` gives them, of the same tokens.
    """
    gram = neurons.T @ neurons
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    change = torch.linalg.solve(gram, neurons.T @ lacking).T
    if block.shared_expert is not None:
        shared = block.shared_expert.down_proj.weight
        shared += change[:, : shared.shape[1]]
        change = change[:, shared.shape[1] :]
    down = block.experts.down_proj
    down += change.unflatten(1, (down.shape[0], down.shape[2])).transpose(0, 1)


@torch.no_grad()
def active_neurons(block: MoE, x: Tensor, weights: Tensor) -> Tensor:
    """What the down matrices are multiplied with for states [tokens, width]: the neurons of the shared part, then those
    of all experts, times the weights [tokens, experts] with which they are chosen."""
    experts, shared = block.experts, block.shared_expert
    act = activation_of(experts.activation)
    routed = x.new_zeros(len(x), experts.count, experts.hidden)
    for e in range(experts.count):
        chosen = weights[:, e] != 0
        gate, up = F.linear(x[chosen], experts.up[e]).chunk(2, dim=-1)
        routed[chosen, e] = act(gate) * up * weights[chosen, e, None]
    parts = [] if shared is None else [act(shared.gate_proj(x)) * shared.up_proj(x)]
    return torch.cat([*parts, routed.flatten(1)], dim=1)
