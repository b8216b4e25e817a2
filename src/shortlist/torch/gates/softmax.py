"""Softmax over all experts; the k largest weights are kept."""

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
        See `Gate`.
    k
        Experts of a token.
    normalize
        True: the k weights are normalized to add up to one, as in Mixtral and Qwen3-MoE. False: they are
        those of the softmax over all experts, as in OLMoE and Qwen2-MoE. By default True, but False for k =
        1: a single normalized weight would always be one, and the router would get no gradient.
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
    """Route by the k largest of logits [tokens, experts], weighted by softmax, with both of its losses."""
    probabilities = wide(logits).softmax(-1)
    weights, experts = probabilities.topk(k, dim=-1)
    if normalize:
        weights = weights / weights.sum(-1, keepdim=True)
    losses = {"load_balance": load_balance(probabilities, experts, group), "router_z": router_z(logits)}
    return Routing.of_top_k(weights.to(logits.dtype), experts, logits.shape[1], losses=losses)
