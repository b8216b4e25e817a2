"""What a shortlisted model costs in quality and saves in bytes, measured beside the dense one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from shortlist.errors import UsageError


class Read(Protocol):
    """What one query read of the head."""

    @property
    def rows(self) -> int: ...
    @property
    def bytes(self) -> int: ...


class Decoder(Protocol):
    """What is asked of a decoder here: the weight bytes that a token read before the head, on average."""

    @property
    def layer_bytes(self) -> int: ...


class Head(Protocol):
    """A language-model head: hidden state float32 [width] to a greedy token, or to logits [vocabulary]."""

    def argmax(self, hidden: np.ndarray) -> tuple[int, Read]: ...
    def logits(self, hidden: np.ndarray) -> tuple[np.ndarray, Read]: ...
    def exact_rows(self, hidden: np.ndarray, indices: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class DenseQuality:
    """The dense model: perplexity, and the weight bytes that a token reads, decoder included."""

    perplexity: float
    bytes_per_token: float


@dataclass(frozen=True)
class ShortlistedQuality:
    """A shortlisted model against the dense one, on the same text.

    Attributes
    ----------
    perplexity : float
        Of the whole vocabulary: exact logits on the shortlist, estimates elsewhere.
    perplexity_change : float
        Relative to the dense head.
    perplexity_change_error : float
        Standard error of that change; positions are paired, so it is far smaller than that of a perplexity.
    agreement : float
        Share of positions where the greedy token equals the dense one.
    recall : float
        Share of positions where the row that greedy decoding needs, the dense winner, was on the shortlist.
    rows_share : float
        Mean share of the head's rows that greedy decoding computed exactly.
    bytes_per_token : float
        Weight bytes that a greedy token reads, decoder included.
    sampling_bytes_per_token : float
        The same where the whole distribution is wanted: what the perplexity and the distance were had for.
    total_variation : float
        Mean distance to the dense distribution at temperature 1: half the sum of absolute differences.
    """

    perplexity: float
    perplexity_change: float
    perplexity_change_error: float
    agreement: float
    recall: float
    rows_share: float
    bytes_per_token: float
    sampling_bytes_per_token: float
    total_variation: float


@dataclass(frozen=True)
class Quality:
    """Both, over the same `tokens` positions."""

    tokens: int
    dense: DenseQuality
    shortlisted: ShortlistedQuality

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def compare(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], dense: Head, shortlisted: Head, decoder_bytes: int
) -> Quality:
    """Measure a shortlisted head against the dense one, position by position.

    Parameters
    ----------
    batches : iterable of (hidden float32 [n, width], targets int [n])
        Hidden states, and the token that really came after each; see `teacher_forced.windows`.
    dense, shortlisted : Head
        Of the same rows.
    decoder_bytes : int
        Weight bytes that a token reads before the head.

    Raises
    ------
    UsageError
        There is no position to measure.
    """
    records = [
        _compare_at(state, state, int(target), dense, shortlisted)
        for hidden, targets in batches
        for state, target in zip(hidden, targets, strict=True)
    ]
    return _quality(records, decoder_bytes, decoder_bytes)


def compare_models(
    batches: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
    dense: tuple[Decoder, Head],
    shortlisted: tuple[Decoder, Head],
) -> Quality:
    """Measure a model whose layers are shortlisted too, against the dense one.

    Parameters
    ----------
    batches : iterable of (dense hidden float32 [n, width], hidden float32 [n, width], targets int [n])
        Hidden states of both decoders, and the token that really came after each.
    dense, shortlisted : (decoder, head)

    Raises
    ------
    UsageError
        There is no position to measure.
    """
    records = [
        _compare_at(dense_state, state, int(target), dense[1], shortlisted[1])
        for dense_hidden, hidden, targets in batches
        for dense_state, state, target in zip(dense_hidden, hidden, targets, strict=True)
    ]
    return _quality(records, dense[0].layer_bytes, shortlisted[0].layer_bytes)


def _quality(records: list[_Position], dense_bytes: float, shortlisted_bytes: float) -> Quality:
    if not records:
        raise UsageError("there is nothing to measure: the text must have at least two tokens")
    mean = {name: float(np.mean([getattr(r, name) for r in records])) for name in _Position.__annotations__}
    changes = np.array([r.loss - r.dense_loss for r in records])
    change = math.expm1(changes.mean())
    return Quality(
        tokens=len(records),
        dense=DenseQuality(math.exp(mean["dense_loss"]), dense_bytes + mean["dense_bytes"]),
        shortlisted=ShortlistedQuality(
            perplexity=math.exp(mean["loss"]),
            perplexity_change=change,
            perplexity_change_error=(1 + change) * float(changes.std()) / math.sqrt(len(records)),
            agreement=mean["agrees"],
            recall=mean["found"],
            rows_share=mean["rows_share"],
            bytes_per_token=shortlisted_bytes + mean["bytes"],
            sampling_bytes_per_token=shortlisted_bytes + mean["sampling_bytes"],
            total_variation=mean["total_variation"],
        ),
    )


@dataclass(frozen=True)
class _Position:
    """What one position says; losses are negative log-likelihoods in nats."""

    dense_loss: float
    dense_bytes: int
    loss: float
    bytes: int
    sampling_bytes: int
    rows_share: float
    agrees: bool
    found: bool
    total_variation: float


def _compare_at(
    dense_hidden: np.ndarray, hidden: np.ndarray, target: int, dense: Head, shortlisted: Head
) -> _Position:
    dense_logits, dense_read = dense.logits(dense_hidden)
    winner = int(np.argmax(dense_logits))
    logits, sampling_read = shortlisted.logits(hidden)
    token, read = shortlisted.argmax(hidden)
    dense_logs, logs = log_softmax(dense_logits), log_softmax(logits)
    exact = shortlisted.exact_rows(hidden, np.array([target, winner]))
    return _Position(
        dense_loss=-float(dense_logs[target]),
        dense_bytes=dense_read.bytes,
        # Who asks for the probability of one token can read its row.
        loss=-_corrected(float(logs[target]), float(exact[0] - logits[target])),
        bytes=read.bytes,
        sampling_bytes=sampling_read.bytes,
        rows_share=read.rows / len(logits),
        agrees=token == winner,
        # A row on the shortlist has its exact logit to the last bit; an estimate practically never has.
        found=bool(logits[winner] == exact[1]),
        total_variation=0.5 * float(np.abs(np.exp(dense_logs) - np.exp(logs)).sum(dtype=np.float64)),
    )


def _corrected(log_probability: float, correction: float) -> float:
    """A log-probability after the token's logit was corrected, in the normaliser too."""
    return log_probability + correction - math.log1p(math.exp(log_probability) * math.expm1(correction))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities float32 [vocabulary]; the normaliser is summed in float64."""
    shifted = logits - logits.max()
    return shifted - np.float32(np.log(np.exp(shifted).sum(dtype=np.float64)))
