"""How the next token is chosen from a vector of logits: the definition that every faster path must equal.

The chain is: repetition penalty, temperature, top-k, top-p, min-p, then the greatest logit plus Gumbel noise.
All three truncations keep a prefix of one order: greatest value first, and the lowest row first among equals.
Everything after the head's float32 logits is computed in float64, where a term below the last digit of
a logit cannot create ties.
"""

import math

import numpy as np

from shortlist._native import gumbel_noise
from shortlist.engine.noise import MAX_NOISE
from shortlist.engine.options import SamplingOptions


def scale(logits: np.ndarray, options: SamplingOptions, seen: np.ndarray) -> np.ndarray:
    """Repetition penalty and temperature.

    Each value is mapped by a function that never falls, rounding included, so bounds of a logit become bounds
    of its scaled value.

    Parameters
    ----------
    logits : float32 [n]
    options
    seen : bool [n]
        Rows whose token occurs in the text so far.

    Returns
    -------
    float64 [n]
    """
    scaled = logits.astype(np.float64)
    if options.repetition_penalty != 1:
        penalised = scaled[seen]
        scaled[seen] = np.where(
            penalised > 0, penalised / options.repetition_penalty, penalised * options.repetition_penalty
        )
    if not options.greedy:
        scaled /= options.temperature
    return scaled


def sample(logits: np.ndarray, options: SamplingOptions, position: int, seen: np.ndarray) -> int:
    """The next token, chosen with every logit known.

    Parameters
    ----------
    logits : float32 [vocab]
    options
        With a seed unless greedy.
    position
        Of the token that is chosen, counted from the start of the text.
    seen : bool [vocab]
        Tokens that occur in the text so far.
    """
    scaled = scale(logits, options, seen)
    if options.greedy:
        return int(np.argmax(scaled))
    rows = top_k(scaled, options.top_k) if options.top_k else np.arange(len(scaled))
    return draw(rows, scaled[rows], options, position)


def draw(rows: np.ndarray, values: np.ndarray, options: SamplingOptions, position: int) -> int:
    """One row by top-p, min-p and noise, from those that top-k left.

    Parameters
    ----------
    rows : int [n]
    values : float64 [n]
        Scaled logits of `rows`.
    """
    if options.top_p < 1:
        kept = nucleus(rows, values, options.top_p)
        rows, values = rows[kept], values[kept]
    if options.min_p > 0:
        kept = values >= values.max() + math.log(options.min_p)
        rows, values = rows[kept], values[kept]
    assert options.seed is not None
    # Noise costs two logarithms a row: spare the rows that would lose even with the greatest noise.
    best = np.argmax(values)
    floor = values[best] + gumbel_noise(options.seed, position, rows[best : best + 1])[0]
    possible = values + MAX_NOISE >= floor
    rows, values = rows[possible], values[possible]
    return first_maximum(rows, values + gumbel_noise(options.seed, position, rows))


def first_maximum(rows: np.ndarray, values: np.ndarray) -> int:
    """The row with the greatest value; the lowest row among equals, in whatever order they come."""
    return int(rows[values == values.max()].min())


def top_k(scaled: np.ndarray, k: int) -> np.ndarray:
    """The k rows with the greatest values, greatest first and the lowest row first among equals."""
    count = len(scaled)
    threshold = np.partition(scaled, count - k)[count - k] if k < count else -np.inf
    rows = np.flatnonzero(scaled >= threshold)
    return rows[np.argsort(-scaled[rows], kind="stable")[:k]]


def nucleus(rows: np.ndarray, values: np.ndarray, share: float) -> np.ndarray:
    """Positions of the most likely rows that together hold `share` of the probability (top-p).

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
