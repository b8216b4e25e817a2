"""Routes a token to its nearest centroid. Centroids are fitted to the inputs without gradients."""

import warnings

import torch
from torch import Tensor

from shortlist.torch import ranks
from shortlist.torch.gates.base import Gate, Routing
from shortlist.torch.gates.tally import Tally
from shortlist.torch.numerics import load_of, wide, without_autocast

GROUPS = 0.1  # inputs have groups where their separation exceeds that of one normal cloud by this much
CLOUD = 1000  # number of rows of that cloud
TRIES = 10  # starts of K-means; the tightest is kept, as some end with two groups in one cell


class KMeans(Gate):
    """Each token goes to the expert whose centroid is nearest, with weight 1 (MixER, https://arxiv.org/abs/2502.05335).

    Centroids are buffers. `fit` sets them; otherwise the first batch does. In training they move towards the
    means of their tokens, with one step of mini-batch K-means for each step of the optimizer. That separates
    inputs that form groups. Without groups the cells are arbitrary, and any learned gate is better. Gives no
    losses.

    Parameters
    ----------
    width, experts
        See `Gate`.
    memory
        Share of the weight of earlier tokens that remains after a step.
    """

    centroids: Tensor
    weight: Tensor
    tally: Tally

    def __init__(self, width: int, experts: int, *, memory: float = 0.9):
        super().__init__(width, experts)
        self.memory = memory
        self.register_buffer("centroids", torch.randn(experts, width))
        self.register_buffer("weight", torch.zeros(experts))  # weight of the tokens behind each centroid
        self.tally = Tally("KMeans", sums=torch.zeros(experts, width), counts=torch.zeros(experts))

    def forward(self, x: Tensor, token_ids: Tensor | None = None) -> Routing:
        """The shortlist for states [tokens, width]."""
        if self.training and not self.weight.any():
            self._place_first(x)
        routing = self.select(self.estimate(x))
        if self.training:
            states = x.detach().to(self.centroids.dtype)
            sums = torch.zeros_like(self.centroids).index_add_(0, routing.experts, states[routing.tokens])
            self.tally.add(states, sums=sums, counts=routing.load)
        return routing

    def estimate(self, x: Tensor) -> Tensor:
        """Minus half the squared distances, up to a constant of each token."""
        states = wide(x.detach())
        centroids = self.centroids.to(states.dtype)
        with without_autocast(x):
            return states @ centroids.T - centroids.square().sum(-1) / 2

    def select(self, scores: Tensor) -> Routing:
        """The expert with the largest score, with weight 1."""
        experts = scores.argmax(-1, keepdim=True)
        return Routing.of_top_k(torch.ones_like(experts, dtype=scores.dtype), experts, self.experts)

    def adjust(self, *, sums: Tensor, counts: Tensor, **_: Tensor) -> None:
        """Move the centroids towards the means of their tokens since the last step."""
        self.weight.mul_(self.memory).add_(counts)
        got = counts > 0
        shift = sums - counts[:, None] * self.centroids
        self.centroids[got] += (shift / self.weight.clamp(min=1)[:, None])[got]

    @torch.no_grad()
    def fit(self, x: Tensor, rounds: int = 10) -> None:
        """Set the centroids by K-means of x [tokens, width]; earlier centroids are dropped.

        Warns where x has no groups: its `separation` is hardly larger than that of normal random numbers with
        the same mean and covariance.
        """
        cloud = one_cloud(x)
        self._place(cloud, rounds)
        without_groups = self.separation(cloud)
        self._place(x, rounds)
        found = self.separation(x)
        if found < without_groups + GROUPS:
            warnings.warn(
                f"the {len(x)} states fall into no {self.experts} groups (separation {found:.2f}, in one "
                f"cloud {without_groups:.2f}): each expert learns from a part of alike tokens; use one "
                "expert, or a gate that learns",
                stacklevel=3,  # above torch's decorator
            )

    @torch.no_grad()
    def separation(self, x: Tensor) -> float:
        """Separation of x [tokens, width] into cells, from 0 to 1; 1 where every token is on its centroid."""
        if self.experts == 1:
            return 1.0
        own, other = torch.cdist(wide(x), self.centroids.to(wide(x).dtype)).topk(2, largest=False).values.mT
        return (1 - own / other.clamp(min=1e-12)).mean().item()

    @torch.no_grad()
    def _place_first(self, x: Tensor) -> None:
        """Set the centroids by the first batch; all processes use that of the first one with tokens."""
        states = x[x.isfinite().all(-1)]
        if len(states) >= self.experts:
            self._place(states)
        ranks.share_first(self.weight.any(), [self.centroids, self.weight], self.group)

    def _place(self, x: Tensor, rounds: int = 10) -> None:
        x = x.detach().to(self.centroids.dtype)
        tries = [self._lloyd(x, rounds) for _ in range(TRIES)]
        centroids = min(tries, key=lambda found: torch.cdist(x, found).amin(-1).square().sum())
        self.centroids.copy_(centroids)
        self.weight.copy_(load_of(torch.cdist(x, centroids).argmin(-1), self.experts))

    def _lloyd(self, x: Tensor, rounds: int) -> Tensor:
        centroids = spread_out(x, self.experts)
        for _ in range(rounds):
            nearest = torch.cdist(x, centroids).argmin(-1)
            counts = load_of(nearest, self.experts)
            sums = torch.zeros_like(centroids).index_add_(0, nearest, x)
            centroids = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centroids)
        return centroids


def one_cloud(x: Tensor) -> Tensor:
    """Draw normal numbers with the mean and covariance of x [rows, width]: a cloud without groups."""
    sample = wide(x)[torch.randperm(len(x), device=x.device)[:CLOUD]]
    centred = sample - sample.mean(0)
    mixture = torch.randn(len(sample), len(sample), device=x.device) / len(sample) ** 0.5
    return sample.mean(0) + mixture @ centred


def least_squares(x: Tensor, y: Tensor, routing: Routing, ridge: float = 1e-6) -> Tensor:
    """Fit a linear map for each expert that predicts the targets of its tokens with least squares.

    Parameters
    ----------
    x, y : float [tokens, width], float [tokens, outputs]
        Inputs and targets.
    routing : Routing
        The tokens of each expert.
    ridge
        Added to the mean squares of the inputs, so that an expert without tokens gets zeros.

    Returns
    -------
    float [experts, width, outputs]
    """
    maps = []
    for expert in range(routing.shape[1]):
        tokens = routing.tokens[routing.experts == expert]
        own, targets = x[tokens], y[tokens]
        moment = own.mT @ own
        moment.diagonal().add_(ridge * max(len(tokens), 1))
        maps.append(torch.linalg.solve(moment, own.mT @ targets))
    return torch.stack(maps)


def spread_out(x: Tensor, count: int) -> Tensor:
    """Rows of x [rows, width] that are far apart, drawn in proportion to squared distances (K-means++)."""
    chosen = x[torch.randint(len(x), (1,), device=x.device)]
    for _ in range(count - 1):
        distances = torch.cdist(x, chosen).amin(-1).square()
        if not distances.any():
            distances = torch.ones_like(distances)  # fewer different rows than centroids
        chosen = torch.cat((chosen, x[distances.multinomial(1)]))
    return chosen
