"""Any gate, with a search for the expert that each of its places should have."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from shortlist.torch.gates.base import Gate, Routing, Wrapper
from shortlist.torch.gates.evomoe import gumbel_like
from shortlist.torch.numerics import wide, without_autocast


class Permuted(Wrapper):
    """Local search over the order of the experts (COMET+, https://arxiv.org/abs/2306.02824).

    What a gate's place means is decided early: which experts share a branch of a tree, which token ids an
    expert gets from a hash. In the first `share` of training the places are joined to experts by a doubly
    stochastic matrix, learned along with everything else, which starts near the identity, is stirred by
    Gumbel noise and becomes sharper; a token computes every expert that it gives more than a hundredth of the
    token's largest weight. After that it is rounded to the nearest permutation and stays, so the shortlist is
    as long as that of the gate inside. Weights add up to what they add up to inside, but for what the
    hundredth cuts. Needs `progress` and `after_step`; losses and statistics are the inner gate's.

    Parameters
    ----------
    gate
        Any gate.
    share
        Share of training, by `progress`, that is spent on the search.
    noise
        Standard deviation of the noise, in units in which places start with 4 for their own expert and 0 for
        others.
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
        """The inner gate's shortlist, its places replaced by experts."""
        routing = self.gate(x, token_ids)
        return self._soft(routing) if self.searching else self._hard(routing)

    def select(self, scores: Tensor) -> Routing:
        """As the gate inside, its places replaced by experts in the present order."""
        return self._hard(self.gate.select(scores))

    def after_step(self) -> None:
        """Round, while searching."""
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
    """A matrix [n, n] whose rows, and exactly its columns, add up to one (Sinkhorn's iteration, in logs)."""
    for _ in range(rounds):
        logits = logits - logits.logsumexp(1, keepdim=True)
        logits = logits - logits.logsumexp(0, keepdim=True)
    return logits.exp()


def nearest_permutation(values: Tensor) -> Tensor:
    """For each row of values [n, n] a column, none twice: that of the largest value left, again and again."""
    left = values.clone()
    columns = torch.empty(len(values), dtype=torch.int64, device=values.device)
    for _ in range(len(values)):
        row, column = divmod(int(left.argmax()), len(values))
        columns[row] = column
        left[row, :] = -torch.inf
        left[:, column] = -torch.inf
    return columns
