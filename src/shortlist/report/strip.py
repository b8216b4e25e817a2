"""The rows of the head that each token of a text reads, and the token that the shortlist chooses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from shortlist.measure.quality import log_softmax
from shortlist.measure.recall import best_units
from shortlist.measure.teacher_forced import windows
from shortlist.model.tokenizer.tokenizer import Tokenizer
from shortlist.report.speed import Variant

CANDIDATES = 5


def measure_strip(
    shortlisted: Variant,
    dense: Variant,
    tokenizer: Tokenizer,
    prefix: Sequence[int],
    tokens: Sequence[int],
    progress: Callable[[str, float], None],
) -> list[dict[str, Any]]:
    """Measure the cost of predicting each token of a text.

    Returns
    -------
    list of dict
        One dict per token. `text`: its text. `rows`: number of head rows computed exactly, in greedy
        decoding. `candidates`: texts and probabilities of the dense model, likeliest first. `chose`: the text
        that the shortlist chose. `dense_rank`: its rank in the dense model, 1 where both choose the same.
    """
    references = windows(dense.decoder, tokens, prefix)
    found = []
    for (reference, targets), (hidden, _) in zip(
        references, windows(shortlisted.decoder, tokens, prefix), strict=True
    ):
        for dense_state, state, target in zip(reference, hidden, targets, strict=True):
            logits, _ = dense.head.logits(dense_state)
            chosen, read = shortlisted.head.argmax(state)
            best = best_units(logits[None], min(CANDIDATES, len(logits)))[0]
            logs = log_softmax(logits)
            found.append(
                {
                    "text": _text(tokenizer, target),
                    "rows": read.rows,
                    "candidates": [[_text(tokenizer, token), float(np.exp(logs[token]))] for token in best],
                    "chose": _text(tokenizer, chosen),
                    "dense_rank": 1 + int(np.sum(logits > logits[chosen])),
                }
            )
            progress("walking through the sample", len(found) / len(tokens))
    return found


def _text(tokenizer: Tokenizer, token: int) -> str:
    return tokenizer.token_bytes(int(token)).decode(errors="replace")
