"""The KV cache and the tokens that are in it, so that texts which begin alike are not computed twice."""

import threading
from collections.abc import Callable, Sequence

import numpy as np

from shortlist.model.decoder import Decoder


class Session:
    """One KV cache, always brought to the text that is asked for.

    Parameters
    ----------
    decoder
    context
        Most tokens that a text may have.

    Attributes
    ----------
    lock : threading.Lock
        To hold while the decoder or a head works: they and the cache keep what they are at.
    """

    def __init__(self, decoder: Decoder, context: int):
        self.lock = threading.Lock()
        self._decoder = decoder
        self._cache = decoder.new_cache(context)
        self._tokens: list[int] = []

    @property
    def layer_bytes(self) -> int:
        """Weight bytes that a token reads before the head: with shortlisted layers, the mean so far."""
        return self._decoder.layer_bytes

    @property
    def expert_loads(self) -> np.ndarray:
        """Tokens that chose each expert so far; int64 [mixtures, experts]."""
        return self._decoder.expert_loads

    def extend(
        self, tokens: Sequence[int], on_read: Callable[[int, int], None] | None = None
    ) -> tuple[np.ndarray, int]:
        """The hidden state after the last token, computing only what the cache does not hold.

        Parameters
        ----------
        tokens
            The whole text, one token at least.
        on_read
            Called after each piece of a long text with the tokens that were read and all of them.

        Returns
        -------
        hidden : float32 [width]
        reused : int
            Leading tokens that were in the cache.
        """
        # An interrupted prefill leaves a cache that is shorter than the text it was meant for.
        held = self._tokens[: self._cache.length]
        shared = min(common_start(held, tokens), len(tokens) - 1)
        if shared < self._cache.length:
            self._cache.truncate(shared)
        self._tokens = list(tokens)
        rest = np.array(tokens[shared:], dtype=np.int32)
        if on_read is None:
            return self._decoder.forward(rest, self._cache)[-1], shared
        hidden = self._decoder.forward(
            rest, self._cache, on_chunk=lambda done: on_read(shared + done, len(tokens))
        )
        return hidden[-1], shared


def common_start(first: Sequence[int], second: Sequence[int]) -> int:
    """How many leading tokens are the same."""
    low, high = 0, min(len(first), len(second))
    if list(second[:high]) == list(first[:high]):
        return high
    while high - low > 1:  # the first difference lies in [low, high)
        middle = (low + high) // 2
        if list(first[low:middle]) == list(second[low:middle]):
            low = middle
        else:
            high = middle
    return low
