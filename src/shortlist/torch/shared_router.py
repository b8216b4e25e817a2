"""One router for all layers of a model: it reads the tokens, so routes are known before the first layer."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from shortlist.errors import UsageError
from shortlist.torch.gates import Gate, Routing
from shortlist.torch.tokens import Tokens, tell_more, tokens_here

CHUNK = 128
"""Number of tokens whose states are computed at once."""
SHORTEST, LONGEST = 0.5, 512.0
"""Half-lives, in tokens, of the router's averages of the past."""
STATE = "shortlist_router_state"
"""Name of the attribute under which a cache's first keys carry the router's state."""


class SharedRouter(nn.Module):
    """The pre-gating router of Read-ME (https://arxiv.org/abs/2410.19123): it chooses one expert for a token.

    In the paper the router is a transformer block. This one sees the past through averages that decay at
    fixed rates, so that the size of its state does not grow with the text.

    Parameters
    ----------
    width
        Width of an embedding row.
    experts
        Number of experts.
    rank
        Number of averages, the size of the state.

    Attributes
    ----------
    decay : [rank]
        Share of an average that remains after the next token; not trained.
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

    def forward(
        self, embedded: Tensor, state: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute scores [batch, length, experts] and the state [batch, rank] after the last token.

        Parameters
        ----------
        embedded : [batch, length, width]
            Embedding rows, unscaled as they are stored.
        state : [batch, rank], optional
            The state before these tokens; zeros at the start of a text.
        mask : bool [batch, length], optional
            False where a token is padding, at the start or the end of a text. It leaves the state as it is.
        """
        p = self.project(embedded)
        if mask is not None:
            p = p * mask[..., None]
        last = p.new_zeros(len(p), self.rank) if state is None else state
        averages = []
        for chunk in p.split(CHUNK, dim=1):
            averages.append(self._averages(chunk, last))
            last = averages[-1][:, -1]
        after = torch.cat(averages, dim=1)
        scores = self.down(F.relu(self.up(torch.cat([p, after], dim=-1))))
        if mask is not None:
            ages = torch.arange(mask.shape[1], device=mask.device)
            last = after[torch.arange(len(mask), device=mask.device), (mask * ages).argmax(-1)]
        return scores, last

    def _averages(self, p: Tensor, state: Tensor) -> Tensor:
        """s_t = decay s_(t-1) + (1 - decay) p_t for all t of [batch, length, rank] at once."""
        ages = torch.arange(p.shape[1], device=p.device)
        lags = ages[:, None] - ages
        powers = self.decay ** lags.clamp(min=0)[..., None] * (lags >= 0)[..., None]  # [length, length, rank]
        new = torch.einsum("tsr,bsr->btr", powers, (1 - self.decay) * p)
        return new + self.decay ** (1 + ages[:, None]) * state[:, None]


class SharedRoute(Gate):
    """A layer's gate in front of a `SharedRouter`: it reads the scores that accompany the tokens."""

    def estimate(self, x: Tensor) -> Tensor:
        """The router's scores; they do not depend on the states.

        Raises
        ------
        UsageError
            The router has not read these tokens.
        """
        tokens = tokens_here()
        scores = None if tokens is None else tokens.scores
        if scores is not None and tokens is not None and tokens.mask is not None:
            scores = scores[tokens.mask.reshape(-1)]  # a layer passes its gate no padding
        if scores is None or len(scores) != len(x):
            raise UsageError(
                "a shared router chooses before the first layer: run the whole model, not a layer"
            )
        return scores

    def select(self, scores: Tensor) -> Routing:
        """The expert with the largest score, with weight 1."""
        best = scores.argmax(-1, keepdim=True)
        return Routing.of_top_k(torch.ones_like(best, dtype=scores.dtype), best, self.experts)


def route(
    model: nn.Module,
    router: SharedRouter,
    ids: Tensor,
    state: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tokens:
    """Compute the router's scores of tokens [batch, length] for all layers, from the state before them."""
    rows = model.get_input_embeddings().weight[ids]  # pyright: ignore[reportCallIssue]
    scores, after = router(rows.detach(), state, mask)
    return Tokens(ids, mask, scores.flatten(0, 1), after.detach())


def follow(decoder: nn.Module) -> list[RemovableHandle]:
    """Make every later pass of a patched decoder begin with its `router`.

    Where a pass has a cache that holds tokens, the router continues from its state after them. The state is
    kept with the cache's keys: each conversation has its own, and a copied cache has a copy.
    """
    return [
        decoder.register_forward_pre_hook(_read_first, with_kwargs=True),
        decoder.register_forward_hook(_keep_state, with_kwargs=True, prepend=True),
    ]


def _read_first(decoder: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    tokens = tokens_here()
    if tokens is None or tokens.ids is None:
        raise UsageError("a shared router reads token ids: call the model with input_ids, not inputs_embeds")
    state = None
    cache = kwargs.get("past_key_values")
    if cache is not None and cache.get_seq_length() > 0:
        state = getattr(_keys(cache), STATE, None)
        if state is None:
            raise UsageError(
                "the cache holds tokens that the model's shared router has not read as they are there "
                "(beams, or a cut): start with a new cache"
            )
    return args, tell_more(route(decoder, decoder.router, tokens.ids, state, tokens.mask), kwargs)


def _keep_state(_decoder: nn.Module, _args: tuple, kwargs: dict[str, Any], output: Any) -> None:
    cache = getattr(output, "past_key_values", None) or kwargs.get("past_key_values")
    tokens = tokens_here()
    if cache is not None and tokens is not None:
        # Reordering or cutting a cache makes new keys, which have no state. A deep copy keeps the state.
        setattr(_keys(cache), STATE, tokens.state)


def _keys(cache: Any) -> Tensor:
    return cache.layers[0].keys
