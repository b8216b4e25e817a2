"""Layer by layer, fit what the mixtures add to what the dense model adds: least squares, no gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from shortlist.torch import MoE
from shortlist.torch.activations import activation_of
from shortlist.torch.convert.walk import Walk
from shortlist.torch.train.not_finite import NotFiniteError

RIDGE = 0.01  # of the mean squared neuron, so that rare neurons stay where they were


@torch.no_grad()
def refit(
    model: Any,
    dense: Any,
    ids: Tensor,
    report: Callable[[float], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Fit the down matrices of the mixtures to the dense layers, on tokens [sequences, length].

    Each layer sees the hidden states that the mixtures before it lead to, so it makes good for what they
    lack, as layer-wise pruning does. Neurons and routes stay as they are. `stop` is asked before each
    layer; where it says so, the rest stay as they are too.

    Raises
    ------
    NotFiniteError
        The fit of a layer is not finite. That layer and those after it are as before.
    """
    walk, reference = Walk(model, ids), Walk(dense, ids)
    for wanted in reference:
        if stop():
            return
        layer, name = walk.blocks[wanted.index]
        block = getattr(layer, name)
        if isinstance(block, MoE):
            step, after = walk.try_layer(wanted.index, block)
            assert step.weights is not None
            # The layers that follow see hidden states at length 1, so that is how errors count.
            lengths = reference.hidden.flatten(0, 1).norm(dim=-1, keepdim=True)
            if hasattr(layer, "post_feedforward_layernorm"):  # the output is not added as it is
                lacking = wanted.y - step.y
            else:
                lacking = (reference.hidden - after).flatten(0, 1)
            try:
                fit_down(block, active_neurons(block, step.x, step.weights) / lengths, lacking / lengths)
            except NotFiniteError as error:
                raise NotFiniteError(f"layer {wanted.index}: {error}") from None
        walk.enter(wanted.index, block)
        report((wanted.index + 1) / len(walk.blocks))


@torch.no_grad()
def fit_down(block: Any, neurons: Tensor, lacking: Tensor) -> None:
    """Change the down matrices so that they add what comes nearest to `lacking` [tokens, width].

    Parameters
    ----------
    neurons
        As `active_neurons` gives them, of the same tokens.

    Raises
    ------
    NotFiniteError
        What comes nearest is not finite. The matrices are as before.
    """
    gram = neurons.T @ neurons
    ridge = RIDGE * gram.diagonal().mean()
    if ridge == 0:
        return  # no neuron says anything
    gram.diagonal().add_(ridge)
    solution, _ = torch.linalg.solve_ex(gram, neurons.T @ lacking)
    change = solution.T
    if not change.isfinite().all():
        raise NotFiniteError("the least-squares fit is not finite")
    if block.shared_expert is not None:
        shared = block.shared_expert.down_proj.weight
        shared += change[:, : shared.shape[1]]
        change = change[:, shared.shape[1] :]
    down = block.experts.down_proj
    down += change.unflatten(1, (down.shape[0], down.shape[2])).transpose(0, 1)


@torch.no_grad()
def active_neurons(block: Any, x: Tensor, weights: Tensor) -> Tensor:
    """What the down matrices are multiplied with: neurons of the shared part, then of all experts.

    Parameters
    ----------
    x : [tokens, width]
        What the block is given.
    weights : [tokens, experts]
        With which experts are chosen; their neurons are multiplied with them.
    """
    experts, shared = block.experts, block.shared_expert
    act = activation_of(experts.activation).forward
    routed = x.new_zeros(len(x), experts.count, experts.hidden)
    for e in range(experts.count):
        chosen = weights[:, e] != 0
        gate, up = F.linear(x[chosen], experts.gate_up_proj[e]).chunk(2, dim=-1)
        routed[chosen, e] = act(gate) * up * weights[chosen, e, None]
    parts = [] if shared is None else [act(shared.gate_proj(x)) * shared.up_proj(x)]
    return torch.cat([*parts, routed.flatten(1)], dim=1)
