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
from shortlist.selectors.confidence import ORDER

MISS_RATE = 5e-4  # share of positions that may miss their winner for want of sigma, and for want of length
TAIL = 10  # largest needs that the tail is extrapolated from
# Texts unlike those of the fit are estimated worse than the choice can know. SmolLM2-135M and Gemma-3-270M
# at rank 64, fitted to text that they wrote, lose 12 winners in 4,096 positions of WikiText-2 with 5 sigma.
# With 6 they lose 1. Where the list is cut at 10 % of the rows, SmolLM2 loses 21 in 8,176 positions and
# Gemma 1; at 15 %, 11 of SmolLM2's.
LEAST_SIGMA = 6.0
LEAST_MOST = 0.2  # share of the rows
SCATTERED = 2.5  # times as long as the same bytes in a row take rows that are picked from a list
BATCH = 64  # positions whose estimates of all rows are held at once


@dataclass(frozen=True)
class Option:
    """A rank, the selector that it needs, and what a greedy token then reads of the head on average.

    Attributes
    ----------
    rank : int
    selector : Confidence
    estimate_bytes, row_bytes : float
    """

    rank: int
    selector: Confidence
    estimate_bytes: float
    row_bytes: float

    @property
    def cost(self) -> float:
        """The bytes that could be read in a row in the same time."""
        return self.estimate_bytes + SCATTERED * self.row_bytes


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
    probes = Confidence().probes
    found = np.zeros(len(hidden), dtype=bool)  # whether the winner is among the probes, which are always read
    needs, marks = np.zeros(len(hidden)), np.empty((len(hidden), 1), dtype=np.float32)
    for batch in _batches(len(hidden)):
        estimate = estimator.estimate(state, hidden[batch])
        probed = best_of_blocks(estimate.values, probes).astype(np.int32)
        for i, position in enumerate(range(batch.start, batch.stop)):
            marks[position] = rows.matvec_rows(hidden[position], probed[i]).max()
            winner = winners[position]
            found[position] = winner in probed[i]
            needs[position] = (marks[position, 0] - estimate.values[i, winner]) / estimate.spread[i, winner]
    needs[found] = 0
    sigma = max(LEAST_SIGMA, math.ceil(10 * tail_quantile(np.maximum(needs, 0), MISS_RATE)) / 10)

    places, lengths = np.zeros(len(hidden)), np.empty(len(hidden))
    for batch in _batches(len(hidden)):
        estimate = estimator.estimate(state, hidden[batch])
        chosen = estimate.values + sigma * estimate.spread >= marks[batch]
        np.put_along_axis(chosen, best_of_blocks(estimate.values, probes), True, axis=1)
        lengths[batch] = np.sum(chosen, axis=1)
        order = estimate.values + sigma / ORDER * estimate.spread
        places[batch] = 1 + np.sum(order > np.take_along_axis(order, winners[batch, None], axis=1), axis=1)
    places[found] = 0
    most = min(rows.rows, math.ceil(max(LEAST_MOST * rows.rows, tail_quantile(places, MISS_RATE))))

    rows_read = float(np.mean(np.minimum(lengths, most + probes)))
    estimate_bytes = estimator.bytes_per_query(rows.rows, rows.cols)
    return Option(estimator.rank, Confidence(sigma, most), estimate_bytes, rows_read * rows.row_bytes)


def _batches(positions: int) -> list[slice]:
    return [slice(start, min(start + BATCH, positions)) for start in range(0, positions, BATCH)]


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
