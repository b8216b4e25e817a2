"""A gate without a router: it chooses experts by token id."""

import torch
from torch import Tensor

from shortlist.errors import UsageError
from shortlist.torch.gates.base import Gate, Routing, checked_k
from shortlist.torch.numerics import wide


class Hash(Gate):
    """The k experts that a hash gives a token's id (https://arxiv.org/abs/2106.04426), each with weight 1/k.

    The same id always has the same experts, so the routing is known before the layer's input. The gate gives
    no losses, has no parameters and needs `token_ids`.

    Parameters
    ----------
    width, experts
        See `Gate`.
    k
        Experts of a token.
    seed
        Seed of the hash. Give layers different seeds, so that two ids share experts in one layer only.
    """

    def __init__(self, width: int, experts: int, k: int = 2, *, seed: int = 0):
        super().__init__(width, experts)
        self.k = checked_k(k, experts)
        self.seed = seed

    def forward(self, x: Tensor, token_ids: Tensor | None = None) -> Routing:
        """The shortlist for ids [tokens]; the values of the states do not matter."""
        if token_ids is None:
            raise UsageError("a hash gate chooses by token ids: call the layer with token_ids=...")
        if len(token_ids) != len(x):
            raise UsageError(
                f"a hash gate got {len(token_ids)} token ids for {len(x)} states: give one for each"
            )
        places = token_ids[:, None] * self.experts + torch.arange(self.experts, device=token_ids.device)
        return equal_top_k(uniform(places + (self.seed << 40)), self.k, wide(x).dtype)

    def estimate(self, x: Tensor) -> Tensor:
        """Equal scores for all experts: a hash does not use the states."""
        return wide(x.new_zeros(len(x), self.experts))

    def select(self, scores: Tensor) -> Routing:
        """The k largest scores, with equal weights."""
        return equal_top_k(scores, self.k, scores.dtype)


def uniform(keys: Tensor) -> Tensor:
    """Hash int64 keys to float32 numbers in [0, 1), the same on every machine."""
    mixed = (keys + 1) * -0x61C8864680B583EB
    for factor in (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15):  # splitmix64; products wrap around
        mixed = (mixed ^ (mixed >> 30)) * factor
    return ((mixed >> 20) & 0xFFFFFF).float() / 2**24


def equal_top_k(scores: Tensor, k: int, dtype: torch.dtype) -> Routing:
    """The k largest of scores [tokens, experts], with weights 1/k of the given type."""
    experts = scores.topk(k, dim=-1).indices
    weights = torch.full(experts.shape, 1 / k, dtype=dtype, device=scores.device)
    return Routing.of_top_k(weights, experts, scores.shape[1])
