"""Auxiliary losses of gates, by the names under which a `Routing` gives them. None is weighted."""

import torch
from torch import Tensor


def load_balance(probabilities: Tensor, experts: Tensor) -> Tensor:
    """What makes the router give all experts the same load: 1 where it does, their number where one gets all.

    The share of the pairs that an expert computes, which has no gradient, times its mean probability, summed
    over experts and times their number (Switch Transformer, https://arxiv.org/abs/2101.03961).

    Parameters
    ----------
    probabilities : float [tokens, experts]
        Of the router, each token's add up to 1.
    experts : int64 [pairs]
        Of every pair that was chosen, in any shape.
    """
    count = probabilities.shape[1]
    load = torch.bincount(experts.flatten(), minlength=count).to(probabilities.dtype)
    shares = load / load.sum().clamp(min=1)
    return count * (shares * probabilities.sum(0)).sum() / max(len(probabilities), 1)


def router_z(logits: Tensor) -> Tensor:
    """The mean square of the log of the softmax's normalizer, which keeps logits [tokens, experts] small.

    ST-MoE, https://arxiv.org/abs/2202.08906.
    """
    return logits.float().logsumexp(-1).square().sum() / max(len(logits), 1)


def entropy(probabilities: Tensor) -> Tensor:
    """Mean entropy, in nats, of distributions [tokens, ..., experts], summed over the axes between.

    It is what COMET's trees and dense-to-sparse gates lower to decide for few experts.
    """
    logarithms = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
    return -(probabilities * logarithms).sum() / max(len(probabilities), 1)


def l1(weights: Tensor) -> Tensor:
    """Mean over tokens of the sum of the absolute weights [tokens, experts]."""
    return weights.abs().sum() / max(len(weights), 1)
