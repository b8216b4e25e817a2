"""Softmax over all experts, of which the k with the largest scores are kept."""

from torch import Tensor, nn

from shortlist.nn.gates.base import Gate, Routing


class SoftmaxTopK(Gate):
    """The gate of most released mixtures of experts: a linear router, softmax and top-k.

    Parameters
    ----------
    width, experts
        As for every gate.
    k
        Experts of a token.
    normalize
        Weights of the k add up to one, as in Mixtral and Qwen3-MoE; otherwise they are what the softmax over
        all experts gives them, as in OLMoE and Qwen2-MoE.
    """

    def __init__(self, width: int, experts: int, k: int = 2, *, normalize: bool = True):
        super().__init__(width, experts)
        if not 1 <= k <= experts:
            raise ValueError(f"k must be from 1 to the number of experts, {experts}, not {k}")
        self.k = k
        self.normalize = normalize
        self.router = nn.Linear(width, experts, bias=False)

    def estimate(self, x: Tensor) -> Tensor:
        """Router logits."""
        return self.router(x)

    def select(self, scores: Tensor) -> Routing:
        """Softmax weights, in float32, of the k largest logits."""
        best, experts = scores.float().topk(self.k, dim=-1)
        total = best if self.normalize else scores.float()
        weights = (best - total.logsumexp(-1, keepdim=True)).exp()
        return Routing.of_top_k(weights.to(scores.dtype), experts, self.experts)
