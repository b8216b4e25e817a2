"""A whole model, decoder and head, against the dense one on a given text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from shortlist.evaluate.quality import Head, Quality, compare, compare_models
from shortlist.evaluate.teacher_forced import Forward, windows


class Decoder(Forward, Protocol):
    """What teacher forcing needs, and the weight bytes that a token read before the head, on average."""

    @property
    def layer_bytes(self) -> int: ...


class Pair(NamedTuple):
    """What turns tokens into logits."""

    decoder: Decoder
    head: Head


def compare_on_text(
    tokens: Sequence[int],
    prefix: Sequence[int],
    dense: Pair,
    shortlisted: Pair,
    progress: Callable[[float], None] | None = None,
) -> Quality:
    """Measure a shortlisted model against the dense one, position by position.

    Parameters
    ----------
    tokens, prefix, progress
        As for `teacher_forced.windows`.
    dense, shortlisted
        Where they share the decoder, it reads the text once.

    Raises
    ------
    UsageError
        There is no position to measure.
    """
    batches = windows(shortlisted.decoder, tokens, prefix, progress)
    if dense.decoder is shortlisted.decoder:
        return compare(batches, dense.head, shortlisted.head, shortlisted.decoder.layer_bytes)
    references = windows(dense.decoder, tokens, prefix)
    pairs = (
        (reference, hidden, targets)
        for (reference, targets), (hidden, _) in zip(references, batches, strict=True)
    )
    return compare_models(pairs, dense, shortlisted)
