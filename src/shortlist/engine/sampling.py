"""How the next token is chosen from a vector of logits: the definition that every faster path must equal.

The chain is: penalties, biases and constraint (`adjust`), temperature, top-k, top-p, min-p, then the greatest
logit plus Gumbel noise.
All truncations keep a prefix of one order: greatest value first, and the lowest row first among equals.

Rows that noise cannot lift to the top (`REACH`) are left out from the start, so that the work after the head
touches few rows. They count in no truncation either: top-p's whole is without them, which moves it by less
than 4e-4 in the worst vocabulary of 2**18 rows, and by some 1e-8 in real ones.
"""

import math

import numpy as np

from shortlist import _native
from shortlist.engine.noise import MAX_NOISE, MIN_NOISE
from shortlist.engine.options import SamplingOptions
from shortlist.selectors.base import best

REACH = MAX_NOISE - MIN_NOISE


def temper(logits: np.ndarray, options: SamplingOptions) -> np.ndarray:
    """Divide by the temperature, in float64, where values that differ stay different; float64 [n].

    Like an `Adjustment` it maps values by a function that never falls, so bounds of a logit become bounds.
    """
    values = logits.astype(np.float64)
    return values if options.greedy else values / options.temperature


def reaching(logits: np.ndarray, best: float, options: SamplingOptions) -> np.ndarray:
    """Rows within reach of a best logit, and perhaps a few more; int [rows], ascending."""
    below = 0.0 if options.greedy else options.temperature * REACH
    cut = float(best) - below - 1e-9 * (abs(best) + below)  # float64 may be off by less than that
    return np.flatnonzero(logits >= np.nextafter(np.float32(cut), np.float32(-np.inf)))


def sample(logits: np.ndarray, options: SamplingOptions, position: int) -> int:
    """Where the next token is, chosen with every logit that matters known.

    Parameters
    ----------
    logits : float32 [n]
        Adjusted; of the whole vocabulary.
    options
        With a seed unless greedy.
    position
        Of the token that is chosen, counted from the start of the text.
    """
    return sample_rows(np.arange(len(logits)), logits, options, position)


def sample_rows(rows: np.ndarray, logits: np.ndarray, options: SamplingOptions, position: int) -> int:
    """What `sample` returns where all other rows are forbidden.

    Parameters
    ----------
    rows : int [n]
        Ascending.
    logits : float32 [n]
        Adjusted, of `rows`.
    """
    if options.greedy:
        return int(rows[np.argmax(logits)])
    places = reaching(logits, logits.max(), options)
    rows, values = rows[places], temper(logits[places], options)
    if options.top_k:
        kept = top_k(values, options.top_k)
        rows, values = rows[kept], values[kept]
    return draw(rows, values, options, position)


def draw(rows: np.ndarray, values: np.ndarray, options: SamplingOptions, position: int) -> int:
    """One row by top-p, min-p and noise, from those that top-k left.

    Parameters
    ----------
    rows : int [n]
    values : float64 [n]
        Logits of `rows` after penalty and temperature.
    """
    within = values >= values.max() - REACH
    rows, values = rows[within], values[within]
    if options.top_p < 1:
        kept = nucleus(rows, values, options.top_p)
        rows, values = rows[kept], values[kept]
    if options.min_p > 0:
        kept = values >= values.max() + math.log(options.min_p)
        rows, values = rows[kept], values[kept]
    best = int(np.argmax(values))
    places, noise = contenders(rows, values, values[best], rows[best], options, position)
    return first_maximum(rows[places], values[places] + noise)


def contenders(
    rows: np.ndarray,
    upper: np.ndarray,
    best_value: float,
    best_row: int,
    options: SamplingOptions,
    position: int,
    lowest: float = -math.inf,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows that could win against the best one once noise is added, and their noise.

    Parameters
    ----------
    rows : int [n]
    upper : float64 [n]
        Values of `rows`, or bounds that they do not exceed.
    best_value, best_row
        A row that the draw is certain to keep.
    lowest
        Rows below this value are certainly not kept.

    Returns
    -------
    places : int64 [m]
        Of the rows whose upper value plus noise is at least that of the best row.
    noise : float64 [m]
    """
    assert options.seed is not None
    own_noise = _native.gumbel_noise(options.seed, position, np.array([best_row], np.int32))[0]
    floor = best_value + float(own_noise)
    # noise.contenders is the readable twin.
    return _native.contenders(options.seed, position, rows, upper, floor, lowest)


def first_maximum(rows: np.ndarray, values: np.ndarray) -> int:
    """The row with the greatest value; the lowest row among equals, in whatever order they come."""
    return int(rows[values == values.max()].min())


def top_k(values: np.ndarray, k: int) -> np.ndarray:
    """Where the k greatest values are, greatest first and the first among equals first."""
    kept = best(values, k)
    return kept[np.argsort(-values[kept], kind="stable")]


def nucleus(rows: np.ndarray, values: np.ndarray, share: float) -> np.ndarray:
    """Where the most likely rows are that together hold `share` of the probability (top-p).

    A row is kept when those before it hold less than `share`, so the first always is
    (Holtzman et al., https://arxiv.org/abs/1904.09751).
    """
    weights = np.exp(values - values.max())
    total = weights.sum()
    # Rows under this weight hold, all together, less than the part that is left out: no need to sort them.
    likely = np.flatnonzero(weights >= 0.5 * (1 - share) * total / len(weights))
    order = likely[np.lexsort((rows[likely], -values[likely]))]
    before = np.concatenate(([0.0], np.cumsum(weights[order])[:-1]))
    return order[before < share * total]
