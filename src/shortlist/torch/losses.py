"""Auxiliary losses of gates, named as in `Routing.losses`. None is weighted."""

from typing import Any

import torch
from torch import Tensor

from shortlist.torch import ranks
from shortlist.torch.numerics import load_of, wide


def load_balance(probabilities: Tensor, experts: Tensor, group: Any = None) -> Tensor:
    """Penalize unequal load: 1 where all experts get the same load, `experts` where one gets every pair.

    The loss is experts * sum over experts of (share of the pairs * mean probability). The share has no
    gradient (Switch Transformer, https://arxiv.org/abs/2101.03961).

    Parameters
    ----------
    probabilities : float [tokens, experts]
        The router's probabilities; a token's add up to 1.
    experts : int64 [pairs]
        The expert of every chosen pair, in any shape.
    group
        Processes of `torch.distributed` whose tokens count together (None: all processes). Each of them gets
        the same loss; the mean of their gradients, as data parallelism takes it, is the loss's gradient.
    """
    tokens, count = probabilities.shape
    load = load_of(experts.flatten(), count).to(probabilities.dtype)
    mass = probabilities.sum(0)
    many = ranks.count_of(group)
    if many > 1 and mass.requires_grad:  # without gradients no process waits for another
        own = torch.cat([load, mass, mass.new_tensor([tokens])])
        load, masses, all_tokens = ranks.sum_over(own, group).split([count, count, 1])
        mass = (masses + many * (mass - mass.detach())) / all_tokens
    else:
        mass = mass / max(tokens, 1)
    shares = load / load.sum().clamp(min=1)
    return count * (shares * mass).sum()


def router_z(logits: Tensor) -> Tensor:
    """Mean of logsumexp(logits)^2 over logits [tokens, experts]; it keeps the logits small.

    ST-MoE, https://arxiv.org/abs/2202.08906.
    """
    return wide(logits).logsumexp(-1).square().sum() / max(len(logits), 1)


def entropy(probabilities: Tensor) -> Tensor:
    """Entropy, in nats, of distributions [tokens, ..., experts]: mean over tokens, sum over other axes.

    COMET's trees and dense-to-sparse gates lower it in training, so that they choose few experts.
    """
    logarithms = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
    return -(probabilities * logarithms).sum() / max(len(probabilities), 1)


def l1(weights: Tensor) -> Tensor:
    """Mean over tokens of the sum of the absolute weights [tokens, experts]."""
    return weights.abs().sum() / max(len(weights), 1)
