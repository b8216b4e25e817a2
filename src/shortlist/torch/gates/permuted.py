"""A wrapper that learns which expert each output of a gate should stand for."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from shortlist.torch.gates.base import Gate, Routing, Wrapper
from shortlist.torch.gates.evomoe import gumbel_like
from shortlist.torch.numerics import wide, without_autocast


class Permuted(Wrapper):
    """Local search over the order of the experts (COMET+, https://arxiv.org/abs/2306.02824).

    The order of a gate's outputs matters early: it decides which experts share a branch of a tree, or which
    token ids a hash gives to one expert. In the first `share` of training a doubly stochastic matrix maps
    outputs to experts. It is learned with all other parameters, starts near the identity, has Gumbel noise
    added and becomes sharper. A token is then computed by every expert with more than a hundredth of the
    token's largest weight. Afterwards the matrix is rounded to the nearest permutation and stays fixed, so
    the shortlist is as long as the inner gate's. Weights have the same sum as in the inner gate, less the
    part that the hundredth cuts. Needs `progress` and `after_step`; losses and statistics are the inner
    gate's.

    Parameters
    ----------
    gate
        Any gate.
    share
        Share of training, by `progress`, in which the order is learned.
    noise
        Standard deviation of the noise. The matrix starts with logits of 4 on the diagonal and 0 elsewhere.
    """

    order: Tensor

    def __init__(self, gate: Gate, *, share: float = 0.2, noise: float = 1.0):
        super().__init__(gate)
        self.share = share
        self.noise = noise
        self.affinity = nn.Parameter(4 * torch.eye(gate.experts))
        self.register_buffer("order", torch.arange(gate.experts))

    @property
    def searching(self) -> bool:
        """Whether the order is still being learned."""
        return self.training and self.gate.progress < self.share

    def forward(self, x: Tensor, token_ids: Tensor | None = None) -> Routing:
        """The inner gate's shortlist, with its outputs mapped to experts."""
        routing = self.gate(x, token_ids)
        return self._soft(routing) if self.searching else self._hard(routing)

    def select(self, scores: Tensor) -> Routing:
        """The inner gate's selection, with its outputs mapped to experts in the present order."""
        return self._hard(self.gate.select(scores))

    def after_step(self) -> None:
        """Round the matrix to a permutation, while the order is being learned."""
        super().after_step()
        if self.searching:
            self.order.copy_(nearest_permutation(self.affinity.detach()))

    def _hard(self, routing: Routing) -> Routing:
        return replace(routing, experts=self.order[routing.experts])

    def _soft(self, routing: Routing) -> Routing:
        temperature = 10 ** -(self.gate.progress / self.share)  # from 1 to a tenth
        affinity = wide(self.affinity)
        order = doubly_stochastic((affinity + self.noise * gumbel_like(affinity)) / temperature)
        weights = wide(routing.dense())
        with without_autocast(weights):
            weights = weights @ order.to(weights.dtype)
        kept = weights > 0.01 * weights.amax(-1, keepdim=True)
        spread = Routing.of_mask(weights.to(routing.weights.dtype), kept)
        return replace(spread, losses=routing.losses, stats=routing.stats)


def doubly_stochastic(logits: Tensor, rounds: int = 20) -> Tensor:
    """Scale exp(logits) [n, n] so that rows and, exactly, columns add up to one (Sinkhorn, in logs)."""
    for _ in range(rounds):
        logits = logits - logits.logsumexp(1, keepdim=True)
        logits = logits - logits.logsumexp(0, keepdim=True)
    return logits.exp()


def nearest_permutation(values: Tensor) -> Tensor:
    """Assign a column to each row of values [n, n], one to one, greedily by the largest value left."""
    left = values.clone()
    columns = torch.empty(len(values), dtype=torch.int64, device=values.device)
    for _ in range(len(values)):
        row, column = divmod(int(left.argmax()), len(values))
        columns[row] = column
        left[row, :] = -torch.inf
        left[:, column] = -torch.inf
    return columns
