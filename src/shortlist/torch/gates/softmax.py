"""Softmax over all experts, of which the k with the largest scores are kept."""

from typing import Any

from torch import Tensor

from shortlist.torch.gates.base import LinearGate, Routing, checked_k
from shortlist.torch.losses import load_balance, router_z
from shortlist.torch.numerics import wide


class SoftmaxTopK(LinearGate):
    """The gate of most released mixtures of experts: a linear router, softmax and top-k.

    Gives the losses `load_balance` and `router_z`.

    Parameters
    ----------
    width, experts
        As for every gate.
    k
        Experts of a token.
    normalize
        Weights of the k add up to one, as in Mixtral and Qwen3-MoE; otherwise they are what the softmax over
        all experts gives them, as in OLMoE and Qwen2-MoE. Unless it is said they do, but for k = 1: a single
        weight would be one whatever the router says, and the router would learn nothing.
    """

    gives = frozenset({"load_balance", "router_z"})

    def __init__(self, width: int, experts: int, k: int = 2, *, normalize: bool | None = None):
        super().__init__(width, experts)
        self.k = checked_k(k, experts)
        self.normalize = k > 1 if normalize is None else normalize

    def select(self, scores: Tensor) -> Routing:
        """Softmax weights, in float32, of the k largest logits."""
        return best_of_softmax(scores, self.k, normalize=self.normalize, group=self.group)


def best_of_softmax(logits: Tensor, k: int, *, normalize: bool, group: Any = None) -> Routing:
    """The k largest of logits [tokens, experts], weighted by softmax, with both losses of such a router."""
    probabilities = wide(logits).softmax(-1)
    weights, experts = probabilities.topk(k, dim=-1)
    if normalize:
        weights = weights / weights.sum(-1, keepdim=True)
    losses = {"load_balance": load_balance(probabilities, experts, group), "router_z": router_z(logits)}
    return Routing.of_top_k(weights.to(logits.dtype), experts, logits.shape[1], losses=losses)
