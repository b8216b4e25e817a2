"""Choose the rank of a low-rank head and the selector that it needs, by what a token then reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shortlist.estimators.base import State
from shortlist.estimators.low_rank import LowRank
from shortlist.selectors import Confidence
from shortlist.selectors.base import best_of_blocks
from shortlist.sites.head import Head

MISS_RATE = 5e-4  # share of positions that may miss their winner for want of sigma
TAIL = 10  # largest needs that the tail is extrapolated from
# Texts unlike those of the fit are estimated worse than the choice can know. SmolLM2-135M and Gemma-3-270M
# at rank 64, fitted to text that they wrote, lose 12 winners in 4,096 positions of WikiText-2 with 5 sigma.
# With 6 they lose 1.
LEAST_SIGMA = 6.0
SCATTERED = 4.0  # times as long as the same bytes in a row take rows that are picked from a list
MOST = 1 / SCATTERED  # share of the rows: with more on the list, reading all of them in a row is faster


@dataclass(frozen=True)
class Option:
    """A rank, the selector that it needs, and what a greedy token then reads of the head on average.

    Attributes
    ----------
    rank : int
    selector : Confidence
    estimate_bytes, picked_bytes, swept_bytes : float
        Of the estimate, of rows that are picked from a list, and of all rows where the list is too long. Of
        rows in 8 bits, the upper halves: few need the others.
    """

    rank: int
    selector: Confidence
    estimate_bytes: float
    picked_bytes: float
    swept_bytes: float

    @property
    def cost(self) -> float:
        """The bytes that could be read in a row in the same time."""
        return self.estimate_bytes + SCATTERED * self.picked_bytes + self.swept_bytes


def weigh_ranks(
    rows: Any,
    widest: LowRank,
    state: State,
    ranks: Sequence[int],
    hidden: np.ndarray,
    progress: Callable[[float], None],
) -> list[Option]:
    """What each rank costs with the selector that it needs, on hidden states that it was not fitted to.

    Parameters
    ----------
    rows : _native.Rows
        The head [vocabulary, width].
    widest, state : LowRank, dict of arrays
        The estimator of the largest rank, and its fit.
    ranks : sequence of int
        To compare, each at most the widest.
    hidden : float32 [positions, width]
    progress : callable
        Called with the share of the work that is done.
    """
    winners = np.empty(len(hidden), dtype=np.int32)
    for i, query in enumerate(hidden):
        winners[i] = np.argmax(rows.matvec(query))
        progress((i + 1) / len(hidden) / 2)
    options = []
    for done, rank in enumerate(ranks, start=1):
        options.append(
            _weigh(rows, replace(widest, rank=rank), widest.truncate(state, rank), hidden, winners)
        )
        progress(0.5 + 0.5 * done / len(ranks))
    return options


def _weigh(rows: Any, estimator: LowRank, state: State, hidden: np.ndarray, winners: np.ndarray) -> Option:
    head = Head(rows, None, estimator, Confidence(), state)
    probes = Confidence().probes
    needs, marks = np.zeros(len(hidden)), np.empty(len(hidden), dtype=np.float32)
    for i, (query, winner) in enumerate(zip(hidden, winners, strict=True)):
        scores = head.scores(query)
        values, spread = scores.values, scores.reach()
        probed = best_of_blocks(values, probes).astype(np.int32)
        marks[i] = head.exact_rows(query, probed).max()
        if winner not in probed:  # probes are always read
            needs[i] = max(0.0, (marks[i] - values[winner]) / spread[winner])
    sigma = max(LEAST_SIGMA, math.ceil(10 * tail_quantile(needs, MISS_RATE)) / 10)

    most = math.ceil(MOST * rows.rows)
    picked, swept = np.zeros(len(hidden)), np.zeros(len(hidden))
    for i, query in enumerate(hidden):
        scores = head.scores(query)
        values, spread = scores.values, scores.reach()
        chosen = values + np.float32(sigma) * spread >= marks[i]
        if np.count_nonzero(chosen) > most:
            swept[i] = rows.rows
        else:
            chosen[best_of_blocks(values, probes)] = True
            picked[i] = np.count_nonzero(chosen)
    row_bytes = rows.upper_row_bytes if rows.format == "q8" else rows.row_bytes
    return Option(
        estimator.rank,
        Confidence(sigma, most),
        estimator.bytes_per_query(rows.rows, rows.cols),
        float(np.mean(picked)) * row_bytes,
        float(np.mean(swept)) * row_bytes,
    )


def tail_quantile(needs: np.ndarray, miss_rate: float) -> float:
    """What all but `miss_rate` of the positions would need, beyond what was seen of them.

    Peaks over threshold with an exponential tail: the mean excess of the largest `TAIL` needs over the next
    one says how fast the tail falls (Balkema and de Haan, 1974; Pickands, 1975).

    Parameters
    ----------
    needs : float [positions]
        What each position needs to keep its winner, such as its smallest sigma.
    miss_rate : float
    """
    ordered = np.sort(needs)
    threshold = ordered[-TAIL - 1]
    excess = float(np.mean(ordered[-TAIL:] - threshold))
    beyond = math.log(TAIL / (len(needs) * miss_rate))
    return max(float(ordered[-1]), threshold + excess * beyond)
