"""Log-probabilities of the chosen token and of the most likely ones."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from shortlist.engine.sampling import top_k
from shortlist.model.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class TokenLogprob:
    """One token and its natural log-probability; its bytes may be part of a character."""

    token: int
    text: bytes
    logprob: float

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        readable = self.text.decode("utf-8", errors="replace")
        return {"token": self.token, "text": readable, "bytes": list(self.text), "logprob": self.logprob}


@dataclass(frozen=True)
class TokenLogprobs:
    """The chosen token, and the most likely ones, most likely first."""

    chosen: TokenLogprob
    top: tuple[TokenLogprob, ...]

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {**self.chosen.to_dict(), "top": [entry.to_dict() for entry in self.top]}


def token_logprobs(logits: np.ndarray, token: int, count: int, tokenizer: Tokenizer) -> TokenLogprobs:
    """Log-softmax over the whole vocabulary, in float64.

    Parameters
    ----------
    logits : float32 [vocab]
    token
        The chosen one.
    count
        How many of the most likely ones to list.
    """
    values = logits.astype(np.float64)
    values -= values.max()
    values -= np.log(np.exp(values).sum())

    def entry(row: int) -> TokenLogprob:
        return TokenLogprob(row, tokenizer.token_bytes(row), float(values[row]))

    best = top_k(values, count) if count else np.array([], dtype=int)
    return TokenLogprobs(entry(token), tuple(entry(int(row)) for row in best))
