"""The draw of `sampling.sample` from bounds: the same token, reading only rows that could change it.

A bounded head knows for every row a lower and an upper bound of its logit, and can read a row's exact value.
Penalty and temperature never reverse an order, so they turn bounds into bounds. From there:

- The best row is among those whose upper bound reaches the greatest lower bound. Every truncation keeps it.
- top-k: its rows are among those whose upper bound reaches the k-th greatest lower bound. They are read,
  and what follows is the dense code on the same numbers.
- Otherwise a row can win only if its upper bound plus its noise reaches what a rival has for certain. Those
  rows are read, and the winner stands if the truncations keep it; if not, neither do they keep any row below
  it.
- min-p compares with the best row, which is known. top-p asks whether the rows before the winner hold less
  than a share of the probability: bounds of every row bracket both sides. Where the bracket is too wide, the
  rows that widen it most are read; where that does not help, all rows are, and the token counts as `full`.

A bracket decides only beyond `MARGIN`, which is far more than float64 sums over a vocabulary can be off, so
that a decision never differs from the dense one by rounding.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from shortlist._native import gumbel_noise
from shortlist.engine.noise import MAX_NOISE
from shortlist.engine.options import SamplingOptions
from shortlist.engine.sampling import draw, first_maximum, sample, scale, top_k
from shortlist.models.heads import Read

# Sums of n float64 terms are off by at most n * 2**-53 of their value: 3e-11 for 2**18 rows.
MARGIN = 1e-9

# Rows that are read at first to narrow a bracket, and how many times more in each further round.
NARROW_ROWS = 1024
NARROW_FACTOR = 4


@runtime_checkable
class BoundedHead(Protocol):
    """A language-model head that bounds every logit and reads single rows exactly."""

    def bounds(self, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...

    def exact_rows(self, hidden: np.ndarray, rows: np.ndarray) -> np.ndarray: ...

    def logits(self, hidden: np.ndarray) -> tuple[np.ndarray, Read]: ...

    def read(self, rows: int) -> Read: ...


@dataclass(frozen=True)
class Draw:
    """A chosen token, what choosing it read of the head, and whether bounds did not settle it (`full`)."""

    token: int
    read: Read
    full: bool = False


def sample_exact(
    head: BoundedHead, hidden: np.ndarray, options: SamplingOptions, position: int, seen: np.ndarray
) -> Draw:
    """The token that `sampling.sample` takes from all logits of `head`.

    Parameters
    ----------
    head
    hidden : float32 [width]
    options, position, seen
        As for `sampling.sample`.
    """
    known = _Known(head, hidden, options, seen)
    best = known.best()
    token = best if options.greedy else _draw(known, best, options, position)
    if token is not None:
        return Draw(token, head.read(known.rows_read))
    logits, read = head.logits(hidden)
    return Draw(sample(logits, options, position, seen), read, full=True)


class _Known:
    """What is known of the scaled logits: two bounds, which are equal where the value itself is known.

    Attributes
    ----------
    lower, upper : float64 [vocab]
    rows_read : int
    """

    def __init__(self, head: BoundedHead, hidden: np.ndarray, options: SamplingOptions, seen: np.ndarray):
        self._head, self._hidden, self._options, self._seen = head, hidden, options, seen
        lower, upper = head.bounds(hidden)
        self.lower = scale(lower, options, seen)
        self.upper = scale(upper, options, seen)
        self.rows_read = 0

    def read(self, rows: np.ndarray) -> None:
        """Learn the exact values of `rows`."""
        rows = rows[self.lower[rows] < self.upper[rows]].astype(np.int32)
        if rows.size:
            values = scale(self._head.exact_rows(self._hidden, rows), self._options, self._seen[rows])
            self.lower[rows] = self.upper[rows] = values
            self.rows_read += len(rows)

    def probe(self, rows: np.ndarray, noise: np.ndarray | float = 0.0) -> float:
        """A value that one of `rows` reaches for certain, noise included: that of the most promising one, read."""
        promising = rows[np.argmax(self.lower[rows] + self.upper[rows] + 2 * noise)]
        self.read(np.array([promising]))
        return (self.lower[rows] + noise).max()

    def best(self) -> int:
        """The row with the greatest value, the lowest among equals; its value is known afterwards."""
        mark = self.probe(np.arange(len(self.lower)))
        rows = np.flatnonzero(self.upper >= mark)
        self.read(rows)
        return first_maximum(rows, self.lower[rows])

    def top_k(self, k: int) -> np.ndarray:
        """The rows that `sampling.top_k` keeps, in its order; their values are known afterwards."""
        if k < len(self.lower):
            promising = np.argpartition(-(self.lower + self.upper), k)[:k]
            self.read(promising)
            rows = np.flatnonzero(self.upper >= self.lower[promising].min())
        else:
            rows = np.arange(len(self.lower))
        self.read(rows)
        return rows[top_k(self.lower[rows], k)]


def _draw(known: _Known, best: int, options: SamplingOptions, position: int) -> int | None:
    """The row that is drawn, or None where bounds do not settle it."""
    assert options.seed is not None
    if options.top_k:
        rows = known.top_k(options.top_k)
        return draw(rows, known.lower[rows], options, position)

    best_value = known.lower[best]
    lowest = best_value + math.log(options.min_p) if options.min_p else -np.inf
    floor = best_value + gumbel_noise(options.seed, position, np.array([best]))[0]
    rows = np.flatnonzero((known.upper + MAX_NOISE >= floor) & (known.upper >= lowest))
    noise = gumbel_noise(options.seed, position, rows).astype(np.float64)

    while True:  # ends at `best` at the latest, which every truncation keeps
        possible = known.upper[rows] + noise >= known.probe(rows, noise)
        known.read(rows[possible])
        winner = first_maximum(rows[possible], known.lower[rows[possible]] + noise[possible])
        value = known.lower[winner]
        kept = value >= lowest
        if kept and options.top_p < 1 and winner != best:
            kept = _in_nucleus(known, winner, best_value, options.top_p)
        if kept is None:
            return None
        if kept:
            return winner
        # A row that certainly comes after one that was not kept is not kept either.
        remain = (known.upper[rows] >= value) & (rows != winner)
        rows, noise = rows[remain], noise[remain]


def _in_nucleus(known: _Known, row: int, best_value: float, share: float) -> bool | None:
    """Whether top-p keeps `row`, or None where that cannot be told from bounds.

    With B the weight of the rows before it and A that of the rows from it on, it is kept if B < share * (A +
    B), that is if (1 - share) * B < share * A.
    """
    value = known.lower[row]
    count = NARROW_ROWS
    while True:
        light, heavy = np.exp(known.lower - best_value), np.exp(known.upper - best_value)
        margin = MARGIN * heavy.sum()
        certainly_before = known.lower > value
        maybe_before = known.upper >= value
        maybe_before[row] = False
        if (1 - share) * heavy[maybe_before].sum() + margin < share * light[~maybe_before].sum():
            return True
        if (1 - share) * light[certainly_before].sum() - margin >= share * heavy[~certainly_before].sum():
            return False
        if count > len(light) // NARROW_FACTOR:
            return None
        known.read(np.argpartition(light - heavy, count)[:count])
        count *= NARROW_FACTOR
