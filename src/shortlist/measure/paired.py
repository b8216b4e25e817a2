"""What a change costs, from paired differences: the same tokens with it and without."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Z = 1.96  # standard errors either side of a 95 % confidence interval


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % confidence interval.

    Attributes
    ----------
    mean, error : float
        The error is one standard error of the mean.
    """

    mean: float
    error: float

    @property
    def upper(self) -> float:
        """The upper end."""
        return self.mean + Z * self.error

    @classmethod
    def of(cls, differences: np.ndarray) -> Interval:
        """The mean of paired differences [tokens]; one alone has an infinite error."""
        count = len(differences)
        error = float(np.std(differences, ddof=1)) / math.sqrt(count) if count > 1 else math.inf
        return cls(float(np.mean(differences)), error)


def affordable(budget: float, tokens: int) -> float:
    """The mean loss that leaves its confidence interval within the budget, as far as can be known before.

    Where a model's distribution moves by a divergence of k nats, the log-probabilities of the tokens that
    really follow move with a variance of about 2 k, so the interval ends at k + Z sqrt(2 k / tokens).

    Parameters
    ----------
    budget : float
        Where the interval may end, in nats.
    tokens : int
        That the interval will be measured on.
    """
    half = Z * math.sqrt(2 / tokens) / 2
    return (math.sqrt(half * half + budget) - half) ** 2
