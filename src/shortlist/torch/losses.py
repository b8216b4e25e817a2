"""Auxiliary losses of gates, by the names under which a `Routing` gives them. None is weighted."""

from typing import Any

import torch
from torch import Tensor

from shortlist.torch import ranks
from shortlist.torch.numerics import load_of, wide


def load_balance(probabilities: Tensor, experts: Tensor, group: Any = None) -> Tensor:
    """What makes the router give all experts the same load: 1 where it does, their number where one gets all.

    The share of the pairs that an expert computes, which has no gradient, times its mean probability, summed
    over experts and times their number (Switch Transformer, https://arxiv.org/abs/2101.03961).

    Parameters
    ----------
    probabilities : float [tokens, experts]
        Of the router, each token's add up to 1.
    experts : int64 [pairs]
        Of every pair that was chosen, in any shape.
    group
        Where `torch.distributed` trains, the loss is that of all tokens of these processes (None: of all),
        the same on each; the mean of the gradients, which data parallelism takes, is its gradient.
    """
    tokens, count = probabilities.shape
    load = load_of(experts.flatten(), count).to(probabilities.dtype)
    mass = probabilities.sum(0)
    many = ranks.count_of(group)
    if many > 1 and mass.requires_grad:  # what only decodes or measures waits for nobody
        own = torch.cat([load, mass, mass.new_tensor([tokens])])
        load, masses, all_tokens = ranks.sum_over(own, group).split([count, count, 1])
        mass = (masses + many * (mass - mass.detach())) / all_tokens
    else:
        mass = mass / max(tokens, 1)
    shares = load / load.sum().clamp(min=1)
    return count * (shares * mass).sum()


def router_z(logits: Tensor) -> Tensor:
    """The mean square of the log of the softmax's normalizer, which keeps logits [tokens, experts] small.

    ST-MoE, https://arxiv.org/abs/2202.08906.
    """
    return wide(logits).logsumexp(-1).square().sum() / max(len(logits), 1)


def entropy(probabilities: Tensor) -> Tensor:
    """Mean entropy, in nats, of distributions [tokens, ..., experts], summed over the axes between.

    It is what COMET's trees and dense-to-sparse gates lower to decide for few experts.
    """
    logarithms = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
    return -(probabilities * logarithms).sum() / max(len(probabilities), 1)


def l1(weights: Tensor) -> Tensor:
    """Mean over tokens of the sum of the absolute weights [tokens, experts]."""
    return weights.abs().sum() / max(len(weights), 1)
