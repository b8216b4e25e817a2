"""Softmax over all experts, of which the k with the largest scores are kept."""

from torch import Tensor

from shortlist.nn.gates.base import LinearGate, Routing, added_up, checked_k
from shortlist.nn.losses import load_balance, router_z


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
        Weights of the k add up to one, as in Mixtral and Qwen3-MoE; otherwise, and for k = 1, they are what
        the softmax over all experts gives them, as in OLMoE and Qwen2-MoE.
    """

    gives = frozenset({"load_balance", "router_z"})

    def __init__(self, width: int, experts: int, k: int = 2, *, normalize: bool = True):
        super().__init__(width, experts)
        self.k = checked_k(k, experts)
        self.normalize = normalize

    def select(self, scores: Tensor) -> Routing:
        """Softmax weights, in float32, of the k largest logits."""
        return best_of_softmax(scores, self.k, normalize=self.normalize)


def best_of_softmax(logits: Tensor, k: int, *, normalize: bool = True) -> Routing:
    """The k largest of logits [tokens, experts], weighted by softmax, with both losses of such a router."""
    probabilities = logits.float().softmax(-1)
    weights, experts = probabilities.topk(k, dim=-1)
    if normalize:
        weights = added_up(weights)
    losses = {"load_balance": load_balance(probabilities, experts), "router_z": router_z(logits)}
    return Routing.of_top_k(weights.to(logits.dtype), experts, logits.shape[1], losses=losses)
