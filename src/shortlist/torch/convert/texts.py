"""The text of a conversion: sequences for calibration and healing, and others for measuring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shortlist.checkpoints import open_checkpoint
from shortlist.errors import UsageError
from shortlist.model.tokenizer.tokenizer import Tokenizer
from shortlist.torch.convert.base import Text
from shortlist.torch.convert.native import written_tokens

LENGTH = 256  # tokens in a sequence
LEAST = 8  # smallest number of sequences in each half
MEASURED = 16  # largest number of sequences to measure on
OWN_TOKENS = 24 * 1024  # number of tokens that the model generates where no text is given


@dataclass(frozen=True)
class Halves:
    """The first halves of the texts, and sequences [sequences, length] of the second halves."""

    text: Text
    test: Tensor


def read_halves(path: Path, texts: Sequence[tuple[str, str]], length: int = LENGTH) -> Halves:
    """Cut named texts into sequences of a model's tokens, each with the model's start tokens.

    Raises
    ------
    UsageError
        A text is too short.
    """
    with open_checkpoint(path) as checkpoint:
        tokenizer = Tokenizer.from_checkpoint(checkpoint)
    prefix = tokenizer.encode("")
    parts = []
    for name, text in texts:
        tokens = np.array(tokenizer.encode(text, add_special=False))
        parts.append(_halves(name, tokens, prefix, length))
    return _together(parts)


def write_halves(
    path: Path, report: Callable[[float], None], *, tokens: int = OWN_TOKENS, length: int = LENGTH
) -> Halves:
    """The same for a text that the model generates itself, in the native runtime."""
    written, prefix = written_tokens(path, tokens, report)
    return _together([_halves("what the model wrote", written, prefix, length)])


def _halves(name: str, tokens: np.ndarray, prefix: Sequence[int], length: int) -> tuple[Tensor, Tensor]:
    step = length - len(prefix)
    sequences = tokens[: len(tokens) // step * step].reshape(-1, step)
    if len(sequences) < 2 * LEAST:
        raise UsageError(
            f"{name} has {len(tokens)} tokens, and {2 * LEAST * step} are needed: give a longer text"
        )
    starts = np.tile(np.array(prefix, dtype=np.int64), (len(sequences), 1))
    whole = torch.from_numpy(np.hstack([starts, sequences]).astype(np.int64))
    middle = len(whole) // 2
    return whole[:middle], whole[middle:]


def _together(parts: Sequence[tuple[Tensor, Tensor]]) -> Halves:
    domains = torch.cat([torch.full((len(first),), i) for i, (first, _) in enumerate(parts)])
    share = -(-MEASURED // len(parts))
    return Halves(
        Text(torch.cat([first for first, _ in parts]), domains),
        torch.cat([second[:share] for _, second in parts]),
    )
