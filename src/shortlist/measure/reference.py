"""The dense model's predictions on a text, kept at the few rows of the head that tell how others differ.

A comparison over the whole vocabulary reads the whole head for every token, many times over while a recipe is
tuned. The rows that matter are known from the dense model: the likeliest, which are kept; and of the others a
sample in proportion to their probability, over which the mean of exp(change of logit) is by how much their
part of the normaliser grows. The token that really follows is kept too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shortlist.measure.paired import Interval
from shortlist.measure.teacher_forced import Forward, windows
from shortlist.sites.head import Head

LIKELIEST, SAMPLED = 96, 96
BATCH = 32  # positions whose logits are held at once


@dataclass(frozen=True)
class Cost:
    """What another model costs on the text, in nats per token, and how often its greedy token is the same.

    Attributes
    ----------
    loss : Interval
        Mean change of the negative log-likelihood of the text.
    divergence : float
        Mean Kullback-Leibler divergence from the dense model's predictions: what the change would be if the
        dense model were right. It varies far less than the change, so few tokens suffice to compare two
        recipes.
    agreement : float
    """

    loss: Interval
    divergence: float
    agreement: float


@dataclass(frozen=True)
class _Rows:
    """At each position rows [n, 1 + LIKELIEST + SAMPLED] of the head, and their dense log-probabilities.

    The target comes first. The weights of the others [n, LIKELIEST + SAMPLED] add up to 1: probabilities of
    the likeliest, equal parts of the rest.
    """

    indices: np.ndarray
    logs: np.ndarray
    weights: np.ndarray


class Reference:
    """The dense model's predictions on a text.

    Parameters
    ----------
    decoder
        The dense one.
    head_rows : _native.Rows
        [vocabulary, width]
    tokens, prefix
        As for `teacher_forced.windows`.
    progress : callable, optional
        Called with the share of the work that is done.
    cap : float, optional
        `ModelConfig.logit_cap`.
    """

    def __init__(
        self,
        decoder: Forward,
        head_rows: Any,
        tokens: Sequence[int] | np.ndarray,
        prefix: Sequence[int],
        progress: Callable[[float], None] | None = None,
        cap: float | None = None,
    ):
        self._head = Head(head_rows, cap)
        self._tokens, self._prefix = tokens, prefix
        random = np.random.default_rng(0)
        self._parts = [
            _keep(self._all_logits(hidden[start : start + BATCH]), targets[start : start + BATCH], random)
            for hidden, targets in windows(decoder, tokens, prefix, progress)
            for start in range(0, len(hidden), BATCH)
        ]

    def measure(self, decoder: Forward, progress: Callable[[float], None] | None = None) -> Cost:
        """What a decoder costs that reads less than the dense one."""
        parts = iter(self._parts)
        losses, divergences, agreements = [], [], []
        for hidden, _ in windows(decoder, self._tokens, self._prefix, progress):
            for start in range(0, len(hidden), BATCH):
                part = next(parts)
                logits = self._logits(hidden[start : start + BATCH], part.indices)
                loss, divergence, agrees = _compare(logits, part)
                losses.append(loss)
                divergences.append(divergence)
                agreements.append(agrees)
        return Cost(
            Interval.of(np.concatenate(losses)),
            float(np.mean(np.concatenate(divergences))),
            float(np.mean(np.concatenate(agreements))),
        )

    def _all_logits(self, hidden: np.ndarray) -> np.ndarray:
        return self._head.logits_together(hidden)

    def _logits(self, hidden: np.ndarray, indices: np.ndarray) -> np.ndarray:
        listed = [self._head.exact_rows(state, rows) for state, rows in zip(hidden, indices, strict=True)]
        return np.stack(listed)


def _keep(logits: np.ndarray, targets: np.ndarray, random: np.random.Generator) -> _Rows:
    """What is kept of dense logits [n, vocabulary]."""
    logits = logits - logits.max(axis=1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(axis=1, dtype=np.float64, keepdims=True)).astype(np.float32)
    likeliest = min(LIKELIEST, logs.shape[1])
    best = np.argpartition(-logs, likeliest - 1, axis=1)[:, :likeliest]
    probabilities = np.exp(np.take_along_axis(logs, best, axis=1))
    rest = np.maximum(0, 1 - probabilities.sum(axis=1, keepdims=True))
    sampled = np.stack([_sample(row, some, random) for row, some in zip(logs, best, strict=True)])
    indices = np.concatenate([targets[:, None], best, sampled], axis=1).astype(np.int32)
    weights = np.concatenate([probabilities, np.broadcast_to(rest / SAMPLED, sampled.shape)], axis=1)
    return _Rows(
        indices, np.take_along_axis(logs, indices, axis=1), weights / weights.sum(axis=1, keepdims=True)
    )


def _sample(logs: np.ndarray, without: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Rows in proportion to their probability, none of those `without`."""
    probabilities = np.exp(logs)
    probabilities[without] = 0
    sums = np.cumsum(probabilities, dtype=np.float64)
    if sums[-1] == 0:  # the likeliest are all there is
        return without[np.zeros(SAMPLED, np.int64)]
    return np.searchsorted(sums, random.uniform(0, sums[-1], SAMPLED), side="right")


def _compare(logits: np.ndarray, dense: _Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Change of the loss, divergence, and whether the winners agree, each [n], by logits at the same rows."""
    changes = (
        logits.astype(np.float64) - dense.logs
    )  # of unnormalised logits: what is common to all drops out
    others = changes[:, 1:]
    highest = others.max(axis=1, keepdims=True)
    growth = highest[:, 0] + np.log((dense.weights * np.exp(others - highest)).sum(axis=1))
    loss = growth - changes[:, 0]
    divergence = growth - (dense.weights * others).sum(axis=1)
    agrees = np.argmax(logits[:, 1:], axis=1) == np.argmax(dense.logs[:, 1:], axis=1)
    return loss, divergence, agrees
