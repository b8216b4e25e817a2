"""Log-probabilities of a text that is given, in pieces, so that other work can be done between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from shortlist.engine.logprobs import TokenLogprobs, token_logprobs

if TYPE_CHECKING:
    from shortlist.engine.model import Model

ROWS = 16
"""Positions whose logits are held at once: 17 MB with a vocabulary of 2**18."""


def score_pieces(model: Model, tokens: Sequence[int], count: int) -> Iterator[list[TokenLogprobs | None]]:
    """What `Model.score` returns, piece by piece.

    Parameters
    ----------
    model
    tokens
        One at least.
    count
        How many of the likeliest tokens to list.
    """
    yield [None]
    place = 1
    for hidden in model.hidden_pieces(tokens[:-1]):
        entries: list[TokenLogprobs | None] = []
        for start in range(0, len(hidden), ROWS):
            for logits in model.dense_head.logits_together(hidden[start : start + ROWS]):
                entries.append(token_logprobs(logits, tokens[place], count, model.tokenizer))
                place += 1
        yield entries
