"""What the engine adds to a token: milliseconds of bookkeeping, with 1,000 and with 32,000 tokens of text.

    python benchmarks/bookkeeping.py

The decoder and the head are stand-ins that compute nothing, so all that is left is the engine's own work. It
must not grow with the text.
"""

import time
from types import SimpleNamespace
from typing import Any

import numpy as np

from shortlist.engine.model import Model
from shortlist.engine.options import GenerationOptions
from shortlist.sites.head import Read

LENGTHS = (1_000, 32_000)
TOKENS = 512
ROUNDS = 5


class NoDecoder:
    """Hidden states of zeros."""

    config = SimpleNamespace(vocab_size=258, width=4, context_length=2**16, family="none")
    layer_bytes, logit_cap = 0, None
    expert_loads = np.zeros((0, 0), np.int64)

    def new_cache(self, capacity: int) -> Any:
        cache = SimpleNamespace(capacity=capacity, length=0, token_bytes=1)
        cache.truncate = cache.discard = lambda length: setattr(cache, "length", length)
        return cache

    def forward_together(self, segments: Any) -> np.ndarray:
        for tokens, cache in segments:
            cache.length += len(tokens)
        return np.zeros((sum(len(tokens) for tokens, _ in segments), self.config.width), np.float32)


class NoHead:
    """Always the token `a`."""

    name = "dense"

    def argmax_together(self, hidden: np.ndarray) -> list[tuple[int, Read]]:
        return [(97, Read(1, 1))] * len(hidden)


class Bytes:
    """A token for every byte, which ends no text."""

    eos_ids = special_ids = frozenset()
    strips_space = False

    def token_bytes(self, token: int) -> bytes:
        return bytes([token])


def milliseconds(length: int) -> float:
    """The best of some rounds, per token, after a prompt of `length` tokens."""
    parts: Any = NoDecoder(), Bytes(), NoHead()
    model: Any = Model(*parts)
    model.dense_head = parts[2]
    best = float("inf")
    for _ in range(ROUNDS):
        pieces = model.stream([1] * length, GenerationOptions(max_tokens=TOKENS))
        next(pieces)
        started = time.perf_counter()
        for _ in pieces:
            pass
        best = min(best, (time.perf_counter() - started) / (TOKENS - 1))
    return best * 1000


if __name__ == "__main__":
    for length in LENGTHS:
        print(f"{length:6} tokens of text: {milliseconds(length):.4f} ms of bookkeeping per token")
