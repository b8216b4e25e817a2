"""A whole model, decoder and head, against the dense one on a given text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from shortlist.measure.quality import Head, Quality, compare, compare_models
from shortlist.measure.teacher_forced import Forward, windows


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
    enough: Callable[[], bool] = lambda: False,
) -> Quality:
    """Measure a shortlisted model against the dense one, position by position.

    Parameters
    ----------
    tokens, prefix, progress
        As for `teacher_forced.windows`.
    dense, shortlisted
        Where they share the decoder, it reads the text once.
    enough
        Asked after each window of 512 tokens; where it says so, the rest of the text is left out.

    Raises
    ------
    UsageError
        There is no position to measure.
    """
    batches = _until(enough, windows(shortlisted.decoder, tokens, prefix, progress))
    if dense.decoder is shortlisted.decoder:
        return compare(batches, dense.head, shortlisted.head, shortlisted.decoder.layer_bytes)
    references = windows(dense.decoder, tokens, prefix)
    pairs = (
        (reference, hidden, targets)
        for (hidden, targets), (reference, _) in zip(batches, references, strict=False)
    )
    return compare_models(pairs, dense, shortlisted)


def _until(enough: Callable[[], bool], batches: Iterator[Any]) -> Iterator[Any]:
    for batch in batches:
        yield batch
        if enough():
            return
