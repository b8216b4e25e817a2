"""Turns the scores of a SentencePiece vocabulary into the list of merges that byte-pair encoding needs.

SentencePiece joins, again and again, the neighbours whose union is the piece of the highest score. While a
span of text becomes one piece, no merge crosses its ends, so the merges inside it are those of the span
tokenized alone. At most one pair can therefore make a piece: the last step of tokenizing the piece itself.
For Gemma these are half as many merges as there are ways to split its pieces, and they load in half the time.
"""

import contextlib
import tempfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np

MERGES_FOLDER = "merges-1"
"""Name of the folder with kept merges; another when `merges_from_scores` comes to give others."""

# The longest pieces of real vocabularies are runs of punctuation, below 200 characters. What is longer than
# this is nothing that text is merged into, and would take time that grows with the square of its length.
_MAX_PIECE = 256


def merges_from_scores(tokens: list[str], scores: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """Derive the merges of a SentencePiece BPE vocabulary, best first.

    Parameters
    ----------
    tokens
        The whole vocabulary; the position is the id.
    scores
        float [tokens].
    pieces
        int [pieces], the ids that text may be merged into: neither control nor byte tokens.

    Returns
    -------
    np.ndarray
        int32 [merges, 2], ids of the left and right part.
    """
    ids = {tokens[i]: i for i in pieces.tolist()}
    score_of = dict(zip(ids, scores[pieces].tolist(), strict=True))
    merges = []
    for piece, score in score_of.items():
        left, right = _last_merge(piece, score_of) or ("", "")
        if left in ids and right in ids:
            merges.append((-score, -len(left), ids[left], ids[right]))
    # Runs of spaces share a score. SentencePiece takes the leftmost of equals, so that a run grows from its
    # left end; among merges, which are in strict order, that is the one with the longest left part.
    merges.sort()
    return np.array([pair for *_, left, right in merges for pair in (left, right)], np.int32).reshape(-1, 2)


def _last_merge(piece: str, scores: Mapping[str, float]) -> tuple[str, str] | None:
    """The two parts that `piece` is made of when it is tokenized alone; None when no merges lead to it."""
    parts = list(piece)
    if not 2 <= len(parts) <= _MAX_PIECE:
        return None
    never = float("-inf")
    pairs = [scores.get(left + right, never) for left, right in pairwise(parts)]
    while len(pairs) > 1:
        best = max(pairs)
        if best == never:
            return None
        i = pairs.index(best)  # the leftmost of equals, as SentencePiece takes it
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
        del pairs[i]
        if i > 0:
            pairs[i - 1] = scores.get(parts[i - 1] + parts[i], never)
        if i < len(pairs):
            pairs[i] = scores.get(parts[i] + parts[i + 1], never)
    return parts[0], parts[1]


def cached_merges(file: Path, tokens: list[str], scores: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """`merges_from_scores`, kept in `file` from the first time on; one that does not fit is written anew."""
    if (merges := _read(file, len(tokens), len(pieces))) is None:
        merges = merges_from_scores(tokens, scores, pieces)
        # Without a cache (a full or read-only disk) everything works, only slower.
        with contextlib.suppress(OSError):
            _write(file, merges)
    return merges


def _read(file: Path, tokens: int, most: int) -> np.ndarray | None:
    try:
        merges = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    fits = merges.dtype == np.int32 and merges.ndim == 2 and merges.shape[1] == 2 and len(merges) <= most
    if not fits or (merges.size and not 0 <= merges.min() <= merges.max() < tokens):
        return None
    return merges


def _write(file: Path, merges: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".part", delete=False) as temporary:
        try:
            np.save(temporary, merges)
            temporary.close()
            Path(temporary.name).replace(file)
        except BaseException:
            Path(temporary.name).unlink(missing_ok=True)
            raise
