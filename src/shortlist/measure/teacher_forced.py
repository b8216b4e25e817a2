"""Hidden states of given text, window by window, with the token that really follows each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

WINDOW = 512  # tokens that see each other; each window starts afresh, as a prompt does


class Forward(Protocol):
    """What teacher forcing needs of a decoder."""

    def new_cache(self, capacity: int) -> Any: ...
    def forward(self, tokens: np.ndarray, cache: Any) -> np.ndarray: ...


def windows(
    decoder: Forward,
    tokens: Sequence[int] | np.ndarray,
    prefix: Sequence[int] = (),
    progress: Callable[[float], None] | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Feed a text to the decoder in windows of 512 tokens.

    Parameters
    ----------
    decoder
    tokens : integers [n]
        The text, without the tokens that every text starts with.
    prefix : sequence of int
        Those: `tokenizer.encode("")`. Each window starts with them.
    progress : callable, optional
        Called with the share of the work that is done.

    Yields
    ------
    hidden : float32 [n, width]
        Final hidden states.
    targets : int64 [n]
        The token after each. Where there is no prefix, the first token of a window is nobody's target.
    """
    for start in range(0, len(tokens), WINDOW):
        window = np.array([*prefix, *tokens[start : start + WINDOW]], dtype=np.int64)
        inputs = window[:-1].astype(np.int32)
        first = max(len(prefix) - 1, 0)  # the last token of the prefix is the first that predicts text
        if len(inputs) > first:
            hidden = decoder.forward(inputs, decoder.new_cache(len(inputs)))
            yield hidden[first:], window[first + 1 :]
        if progress:
            progress(min(1.0, (start + WINDOW) / len(tokens)))
