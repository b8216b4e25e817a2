"""One router for all layers of a model, decoupled from them: routes are known before the first layer."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from shortlist.nn.gates import Gate, Routing
from shortlist.nn.moe import moe_layers

CHUNK = 128
"""Tokens whose states are computed at once."""
SHORTEST, LONGEST = 0.5, 512.0
"""Half-lives, in tokens, of what the router remembers."""


class SharedRouter(nn.Module):
    """The pre-gating router of Read-ME (https://arxiv.org/abs/2410.19123): tokens in, one expert for each.

    Theirs is a transformer block; this one sees the past through averages that fade at fixed rates, so that
    its state stays small, however long the text is.

    Parameters
    ----------
    width
        Of an embedding row.
    experts
        Among which it chooses.
    rank
        Numbers that are remembered.

    Attributes
    ----------
    decay : [rank]
        Share of an average that the next token leaves; not trained.
    """

    def __init__(self, width: int, experts: int, rank: int = 64):
        super().__init__()
        self.experts = experts
        self.rank = rank
        self.project = nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(2 * rank, rank)
        self.down = nn.Linear(rank, experts)
        lives = SHORTEST * (LONGEST / SHORTEST) ** torch.linspace(0, 1, rank)
        self.decay: Tensor
        self.register_buffer("decay", 0.5 ** (1 / lives))

    def forward(self, embedded: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scores [batch, length, experts] and the state [batch, rank] after the last token.

        Parameters
        ----------
        embedded : [batch, length, width]
            Embedding rows as they are stored.
        state : [batch, rank], optional
            After the tokens before these; zeros at the start of a text.
        """
        p = self.project(embedded)
        last = p.new_zeros(len(p), self.rank) if state is None else state
        averages = []
        for chunk in p.split(CHUNK, dim=1):
            averages.append(self._averages(chunk, last))
            last = averages[-1][:, -1]
        remembered = torch.cat([p, torch.cat(averages, dim=1)], dim=-1)
        return self.down(F.relu(self.up(remembered))), last

    def _averages(self, p: Tensor, state: Tensor) -> Tensor:
        """s_t = decay s_(t-1) + (1 - decay) p_t for all t of [batch, length, rank] at once."""
        ages = torch.arange(p.shape[1], device=p.device)
        lags = ages[:, None] - ages
        powers = self.decay ** lags.clamp(min=0)[..., None] * (lags >= 0)[..., None]  # [length, length, rank]
        new = torch.einsum("tsr,bsr->btr", powers, (1 - self.decay) * p)
        return new + self.decay ** (1 + ages[:, None]) * state[:, None]


class SharedRoute(Gate):
    """What a layer sees of a `SharedRouter`: the scores that it left here for the tokens on their way."""

    def __init__(self, width: int, experts: int):
        super().__init__(width, experts)
        self.scores: Tensor | None = None

    def estimate(self, x: Tensor) -> Tensor:
        """The router's scores, whatever the states are."""
        assert self.scores is not None, "`follow` lets the router read the tokens first"
        assert len(self.scores) == len(x)
        return self.scores

    def select(self, scores: Tensor) -> Routing:
        """The expert with the largest score, with weight 1."""
        best = scores.argmax(-1, keepdim=True)
        return Routing.of_top_k(torch.ones_like(best, dtype=scores.dtype), best, self.experts)


def route(model: nn.Module, router: SharedRouter, ids: Tensor, state: Tensor | None = None) -> Tensor:
    """Let the router read tokens [batch, length] for all layers of a model; returns its state after them."""
    rows = model.get_input_embeddings().weight[ids]  # pyright: ignore[reportCallIssue]
    scores, after = router(rows.detach(), state)
    for layer in moe_layers(model):
        if isinstance(layer.gate, SharedRoute):
            layer.gate.scores = scores.flatten(0, 1)
    return after


def follow(model: Any, router: SharedRouter) -> RemovableHandle:
    """From now on every forward pass of a `transformers` model starts with the router.

    It goes on where it was when the pass brings a cache that holds tokens, and starts afresh otherwise.
    """
    kept: dict[str, Tensor] = {}

    def before(_: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        cache = kwargs.get("past_key_values")
        seen = cache is not None and cache.get_seq_length() > 0
        kept["state"] = route(model, router, ids, kept.get("state") if seen else None)

    return model.register_forward_pre_hook(before, with_kwargs=True)
