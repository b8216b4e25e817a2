"""The draw of `sampling.sample` from bounds: the same token, reading only rows that could change it.

A bounded head knows for every row a lower and an upper bound of its logit, and can read a row's exact value.
Neither adjustments nor temperature reverse an order, so they turn bounds into bounds. From there:

- One row that looks best is read. Only rows whose upper bound is within reach of its value matter at all.
- The best row is among those whose upper bound is at least that value. Every truncation keeps it. Where there
  is none, any row is kept, and the one that was read does as well: the best one need not be found.
- A row can win only if its upper bound plus its noise reaches what a rival has for certain. Those rows are
  read, and the winner stands if the truncations keep it; if not, they keep no row below it either.
- min-p compares with the best row, which is known. top-k counts the rows before the winner; those that its
  value lies between the bounds of are read.
- top-p asks whether the rows before the winner hold less than a share of the probability: bounds bracket both
  sides. Where the bracket is too wide, the rows that widen it most are read. Where that does not help, the k
  rows of top-k are read, and what follows is the dense code on the same numbers; without top-k all rows are,
  and the token counts as `full`.

A bracket decides only beyond `MARGIN`, which is far more than float64 sums over a vocabulary can be off, so
that a decision never differs from the dense one by rounding.
"""

import math
from dataclasses import dataclass

import numpy as np

from shortlist.engine.adjust import Adjustment
from shortlist.engine.options import SamplingOptions
from shortlist.engine.sampling import (
    REACH,
    contenders,
    draw,
    first_maximum,
    reaching,
    sample,
    temper,
    top_k,
)
from shortlist.sites.head import Head, Read

# Sums of n float64 terms are off by at most n * 2**-53 of their value: 3e-11 for 2**18 rows.
MARGIN = 1e-9

# Rows that are read at first to narrow a bracket, and how many times more in each further round.
NARROW_ROWS = 1024
NARROW_FACTOR = 4


@dataclass(frozen=True)
class Draw:
    """A chosen token, what choosing it read of the head, and whether bounds did not settle it (`full`)."""

    token: int
    read: Read
    full: bool = False


def sample_exact(
    head: Head, hidden: np.ndarray, options: SamplingOptions, position: int, adjust: Adjustment
) -> Draw:
    """The token that `sampling.sample` takes from all logits of `head`, adjusted.

    Parameters
    ----------
    head
    hidden : float32 [width]
    options, position
        As for `sampling.sample`.
    adjust
        Must allow one row at least.
    """
    known = _Known(head, hidden, options, adjust)
    truncated = options.top_k or options.top_p < 1 or options.min_p > 0
    best = known.best() if options.greedy or truncated else known.likeliest
    token = int(known.rows[best]) if options.greedy else _draw(known, best, options, position)
    read = head.read(known.rows_read)
    if token is not None:
        return Draw(token, read)
    logits, all_rows = head.logits(hidden)
    everything = Read(all_rows.rows, read.bytes + all_rows.bytes)
    return Draw(sample(adjust(logits), options, position), everything, full=True)


class _Known:
    """What is known of the rows that matter. They are spoken of by their place in `rows`.

    Attributes
    ----------
    rows : int [n]
        Ascending.
    lower, upper : float64 [n]
        Bounds after adjustments and temperature; they are equal where the value itself is known.
    likeliest : int
        Where the row that looks best is; it was read.
    rows_read : int
    """

    def __init__(self, head: Head, hidden: np.ndarray, options: SamplingOptions, adjust: Adjustment):
        self._head, self._hidden, self._options, self._adjust = head, hidden, options, adjust
        lower, upper = (adjust(bound) for bound in head.bounds(hidden))
        likeliest = np.argmax(lower + upper, keepdims=True)
        value = adjust(head.exact_rows(hidden, likeliest), likeliest)
        self.rows = reaching(upper, value[0], options)
        self.lower = temper(lower[self.rows], options)
        self.upper = temper(upper[self.rows], options)
        place = np.searchsorted(self.rows, likeliest)
        self.lower[place] = self.upper[place] = temper(value, options)
        self.likeliest = int(place[0])
        self.rows_read = 1

    def read(self, places: np.ndarray) -> None:
        """Learn the exact values of the rows at `places`."""
        places = places[self.lower[places] < self.upper[places]]
        if places.size:
            rows = self.rows[places]
            values = self._adjust(self._head.exact_rows(self._hidden, rows), rows)
            self.lower[places] = self.upper[places] = temper(values, self._options)
            self.rows_read += len(places)

    def best(self) -> int:
        """Where the greatest value is, the first among equals; it is known afterwards."""
        places = np.flatnonzero(self.upper >= self.lower.max())
        self.read(places)
        return first_maximum(places, self.lower[places])

    def kth_value(self, k: int) -> float:
        """A value that k rows certainly reach, close to the k-th greatest, after reading the k likeliest."""
        if k >= len(self.rows):
            return -np.inf
        likely = np.argpartition(-(self.lower + self.upper), k)[:k]
        self.read(likely)
        return self.lower[likely].min()


def _draw(known: _Known, best: int, options: SamplingOptions, position: int) -> int | None:
    """The row that is drawn, or None where bounds do not settle it; `best` is one that is certainly kept."""
    best_value = known.lower[best]
    kth_value = known.kth_value(options.top_k) if options.top_k else -np.inf
    lowest = max(kth_value, best_value + math.log(options.min_p) if options.min_p else -np.inf)
    best_row = int(known.rows[best])
    places, noise = contenders(
        known.rows, known.upper, best_value, best_row, options, position, lowest=lowest
    )

    while True:  # ends at `best` at the latest
        likeliest = np.argmax(known.lower[places] + known.upper[places] + 2 * noise, keepdims=True)
        known.read(places[likeliest])
        possible = known.upper[places] + noise >= (known.lower[places] + noise).max()
        known.read(places[possible])
        winner = first_maximum(places[possible], known.lower[places[possible]] + noise[possible])
        value = known.lower[winner]
        kept = value >= lowest
        if kept and options.top_k:
            kept = _in_top_k(known, winner, options.top_k)
        if kept and options.top_p < 1 and winner != best:
            kept = _in_nucleus(known, winner, best_value, options)
        if kept is None:
            return _draw_from_top_k(known, kth_value, options, position) if options.top_k else None
        if kept:
            return int(known.rows[winner])
        # A row that certainly comes after one that was not kept is not kept either.
        remain = (known.upper[places] >= value) & (places != winner)
        places, noise = places[remain], noise[remain]


def _draw_from_top_k(known: _Known, kth_value: float, options: SamplingOptions, position: int) -> int:
    """The dense draw from the rows of top-k, all of them read."""
    places = np.flatnonzero(known.upper >= kth_value)
    known.read(places)
    places = places[top_k(known.lower[places], options.top_k)]
    return draw(known.rows[places], known.lower[places], options, position)


def _in_top_k(known: _Known, place: int, k: int) -> bool:
    """Whether fewer than k rows come before the one at `place`."""
    value = known.lower[place]
    if np.count_nonzero(known.upper >= value) <= k:  # the row itself is among them
        return True
    known.read(np.flatnonzero((known.upper >= value) & (known.lower <= value)))
    tied = np.count_nonzero(known.lower[:place] == value)
    return bool(np.count_nonzero(known.lower > value) + tied < k)


def _in_nucleus(known: _Known, place: int, best_value: float, options: SamplingOptions) -> bool | None:
    """Whether top-p keeps the row at `place`, or None where that cannot be told from bounds.

    With B the weight of the rows before it and A that of the rows from it on, it is kept if B < share * (A +
    B), that is if (1 - share) * B < share * A. With top-k, A is that of k rows less those of B.
    """
    share = options.top_p
    value = known.lower[place]
    count = NARROW_ROWS
    while True:
        light, heavy = _weights(known.lower, best_value), _weights(known.upper, best_value)
        certain = known.lower > value
        maybe = known.upper >= value
        maybe[place] = False
        before_least, before_most = light[certain].sum(), heavy[maybe].sum()
        after_least = _weight_after(light, maybe, options.top_k)
        after_most = _weight_after(heavy, certain, options.top_k)
        margin = MARGIN * (before_most + after_most)
        if (1 - share) * before_most + margin < share * after_least:
            return True
        if (1 - share) * before_least - margin >= share * after_most:
            return False
        if count > len(light) // NARROW_FACTOR:
            return None
        known.read(np.argpartition(light - heavy, count)[:count])
        count *= NARROW_FACTOR


def _weight_after(weights: np.ndarray, before: np.ndarray, k: int) -> float:
    """The weight of the rows that are not `before`; with top-k only of the heaviest that fill k rows up."""
    after = weights[~before]
    count = k - np.count_nonzero(before)
    if not k or count >= len(after):
        return after.sum()
    return np.partition(after, len(after) - count)[len(after) - count :].sum() if count > 0 else 0.0


def _weights(values: np.ndarray, best_value: float) -> np.ndarray:
    """Probabilities over that of the best row; those out of reach weigh nothing, as in the dense draw."""
    return np.where(values >= best_value - REACH, np.exp(values - best_value), 0.0)
