"""Fits mixtures to the outputs of dense layers, layer by layer, by least squares without gradients."""

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

RIDGE = 0.01  # share of the mean squared activation; it keeps the weights of rare neurons


@torch.no_grad()
def refit(
    model: Any,
    dense: Any,
    ids: Tensor,
    report: Callable[[float], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Fit the down matrices of the mixtures to the dense layers, on tokens [sequences, length].

    Each layer gets the hidden states of the mixtures before it, so that it also corrects their errors, as in
    layer-wise pruning. Neurons and routing do not change. `stop` is called before each layer; once it
    returns True, the remaining layers do not change.

    Raises
    ------
    NotFiniteError
        The fit of a layer is not finite. That layer and later ones are unchanged.
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
            # Later layers normalize hidden states, so errors are weighted by 1 / norm of the state.
            lengths = reference.hidden.flatten(0, 1).norm(dim=-1, keepdim=True)
            if hasattr(layer, "post_feedforward_layernorm"):  # the output is normalized before it is added
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
    """Change the down matrices by the least-squares fit to the missing outputs, `lacking` [tokens, width].

    Parameters
    ----------
    neurons
        The result of `active_neurons` for the same tokens.

    Raises
    ------
    NotFiniteError
        The fit is not finite. The matrices are unchanged.
    """
    gram = neurons.T @ neurons
    ridge = RIDGE * gram.diagonal().mean()
    if ridge == 0:
        return  # all neurons are zero
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
    """The inputs of the down matrices: neurons of the shared expert, then of all experts.

    Parameters
    ----------
    x : [tokens, width]
        Inputs of the block.
    weights : [tokens, experts]
        Routing weights; an expert's neurons are multiplied with them.
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
