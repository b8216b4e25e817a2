"""Reads text files as tokens, in the order of training."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from shortlist.errors import UsageError
from shortlist.torch.train.config import DataConfig


def read_texts(data: DataConfig) -> tuple[list[str], list[str]]:
    """Texts to train on and texts to validate on.

    Raises
    ------
    UsageError
        A file cannot be read, is empty, or is not UTF-8.
    """
    texts = [_read(name) for name in data.text]
    if data.validation:
        return texts, [_read(name) for name in data.validation]
    kept = [len(text) - round(len(text) * data.validation_share) for text in texts]
    return (
        [text[:end] for text, end in zip(texts, kept, strict=True)],
        [text[end:] for text, end in zip(texts, kept, strict=True)],
    )


def tokenize(texts: Sequence[str], encode: Callable[[str], list[int]], end: int | None) -> np.ndarray:
    """Concatenated tokens of all texts, int64 [tokens], each followed by the token `end` if there is one."""
    parts: list[int] = []
    for text in texts:
        parts += encode(text)
        if end is not None:
            parts.append(end)
    return np.asarray(parts, dtype=np.int64)


class Windows:
    """Pieces of a text in an order that depends only on seed and step, so that it can be resumed.

    Each epoch cuts the text at other positions and reads every piece once, in another order.

    Parameters
    ----------
    tokens : int64 [tokens]
        The text, at least `context` + 2 tokens.
    context
        Number of predicted tokens in a piece; a piece has one more.
    seed
        Seed of the order.
    """

    def __init__(self, tokens: np.ndarray, context: int, seed: int):
        self._tokens = tokens
        self._context = context
        self._seed = seed
        self._count = (len(tokens) - 1) // context - 1 or 1
        self._epoch, self._starts = -1, np.zeros(0, np.int64)

    def batch(self, step: int, size: int) -> np.ndarray:
        """The pieces of a step, int64 [size, context + 1]."""
        starts = np.array([self._start(step * size + i) for i in range(size)])
        return self._tokens[starts[:, None] + np.arange(self._context + 1)]

    def _start(self, position: int) -> int:
        epoch, place = divmod(position, self._count)
        if epoch != self._epoch:
            random = np.random.default_rng([self._seed, epoch])
            slack = len(self._tokens) - 1 - self._count * self._context
            offset = random.integers(slack + 1)
            self._epoch = epoch
            self._starts = offset + self._context * random.permutation(self._count)
        return int(self._starts[place])


def in_order(tokens: np.ndarray, context: int, limit: int) -> np.ndarray:
    """Consecutive pieces of a text, int64 [pieces, context + 1], with at most `limit` predictions."""
    count = max(1, min((len(tokens) - 1) // context, limit // context))
    return tokens[np.arange(count)[:, None] * context + np.arange(context + 1)]


def check_length(tokens: np.ndarray, context: int, what: str) -> None:
    """Raise `UsageError` where a text is shorter than one piece."""
    if len(tokens) < context + 2:
        raise UsageError(
            f"the {what} has {len(tokens)} tokens, fewer than one piece of {context}: "
            "give more text, or set a smaller context in [training]"
        )


def _read(name: str) -> str:
    try:
        text = Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"the text {name} cannot be read ({error.strerror}): correct its name in [data]"
        ) from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the text {name} is not valid UTF-8 (byte {error.start + 1}): convert it, for example with iconv"
        ) from None
    if not text:
        raise UsageError(f"the text {name} is empty: name a file with text in [data]")
    return text
