"""The whole distribution from a shortlist: enough rows exact that what is left to estimates hardly matters.

A shortlist that surely holds the best unit can miss much of the probability where the model is unsure. Which
units hold the rest is estimated too. In a softmax an estimate v whose error is normal, of deviation s, stands
for the mean of what it may be, exp(v + s^2 / 2), and the units for which that is greatest are read until the
others hold less than a given share.

For that the deviations must be right, and those of an estimate are right on average over the queries of the
fit only. So a few units, evenly spaced, are read for every query: the deviations are multiplied by what the
errors of these units are over their deviations.

Everything is relative to the exact mass of the shortlist. Estimates alone would be a poor yardstick: one unit
of a huge deviation would outweigh all others.
"""

from __future__ import annotations

import math

from array_api_compat import array_namespace, device

from shortlist.estimators.base import Array, Scores
from shortlist.selectors.base import Exact, Shortlist

LEFT = 0.005  # share of the probability that may be left to estimates

CONTROL = 256  # units whose errors are measured, at most
# Real errors have heavier tails than normal ones of the same size, and the mean of an exponential hangs on
# the tails. Without this factor on the deviation the mass that is left comes out too small for SmolLM2-135M
# and for Gemma-3-270M; with 1.15 it is too great for SmolLM2.
TAIL = 1.1

# Units are sorted into bins by the logarithm of their mass below that of the shortlist, so many to a factor
# of e: one pass, and the same result on any number of threads. The last bin takes what is still smaller.
BINS_PER_NAT = 16
BINS = 1024


def distribution(
    scores: Scores, shortlist: Shortlist, exact: Exact, share: float = LEFT
) -> tuple[Array, int]:
    """Logits of all units of one query, exact but for those that together hold at most `share`.

    The readable twin of `shortlist._native.LowRank.distribution`.

    Parameters
    ----------
    scores : Scores
        Of one query. Where nothing is known of the errors, all units are taken to err alike.
    shortlist : Shortlist
        What a selector chose from it.
    exact : callable
        Computes the exact values of the units that it is given.
    share : float
        Of the exact mass, the sum of exp(value), of the shortlist.

    Returns
    -------
    logits : array [units]
        Exact, or the logarithm of the mean that the exponential of an estimate stands for.
    rows_read : int
        How many are exact.
    """
    xp = array_namespace(scores.values)
    where = device(scores.values)
    units = scores.values.shape[0]

    step = -(-units // CONTROL)
    control = xp.arange(step // 2, units, step, device=where)
    control_values = exact(control)
    deviations = scores.reach()
    if not xp.any(deviations):
        deviations = xp.ones_like(scores.values)
    spreads = xp.sum(deviations[control] ** 2)
    errors = xp.sum((control_values - scores.values[control]) ** 2)
    factor = TAIL**2 * errors / spreads if spreads > 0 else 0.0
    logits = scores.values + 0.5 * factor * deviations**2

    top = xp.max(shortlist.values)
    known_mass = top + xp.log(xp.sum(xp.exp(shortlist.values - top)))
    bins = xp.astype(xp.clip((known_mass - logits) * BINS_PER_NAT, min=0, max=BINS - 1), xp.int64)
    everyone = xp.arange(units, device=where)
    read = xp.isin(everyone, shortlist.indices) | xp.isin(everyone, control)
    heavy = xp.nonzero(~read & (bins < _first_left(bins[~read], share)))[0]

    for indices, values in (
        (shortlist.indices, shortlist.values),
        (control, control_values),
        (heavy, exact(heavy)),
    ):
        logits[indices] = values
    return logits, int(xp.sum(xp.astype(read, xp.int64))) + heavy.shape[0]


def _first_left(bins: Array, share: float) -> int:
    """The first bin from which on the units hold at most `share`, each taken at its bin's upper end."""
    xp = array_namespace(bins)
    left = 0.0
    for bin in range(BINS - 1, 0, -1):
        left += int(xp.sum(xp.astype(bins == bin, xp.int64))) * math.exp(-bin / BINS_PER_NAT)
        if left > share:
            return bin + 1
    return 1
