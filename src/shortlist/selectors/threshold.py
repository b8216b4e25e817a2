"""Every unit above a fixed threshold, taken from calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from array_api_compat import array_namespace

from shortlist.errors import UsageError
from shortlist.estimators.base import Array, Scores
from shortlist.selectors.base import Exact, Selector, Shortlist, reaching, read


@dataclass(frozen=True)
class Threshold(Selector):
    """Keeps the units whose estimate, or what it may be at most, reaches `threshold`.

    Nothing is sorted, and the loop that computes the estimates can compare them at once, as in CATS and TEAL
    (https://arxiv.org/abs/2404.08763, https://arxiv.org/abs/2408.14690). How many units are kept varies.

    Parameters
    ----------
    threshold : float
    sigma : float
        Standard deviations of the estimate's error that are allowed for; 0 takes the estimate as it is.
    """

    name: ClassVar[str] = "threshold"
    threshold: float
    sigma: float = 0.0

    def __post_init__(self) -> None:
        if self.threshold != self.threshold:
            raise UsageError("threshold must be a number: calibrate it on estimates that are numbers")
        if not 0 <= self.sigma < float("inf"):
            raise UsageError(f"threshold needs a sigma of 0 or more, not {self.sigma}")
        if self.sigma:
            object.__setattr__(self, "needs", "confidence")

    @classmethod
    def calibrated(cls, values: Array, keep: float) -> Self:
        """The threshold that a share `keep` of the estimates reaches, more only where some are equal.

        Parameters
        ----------
        values : array [samples, units]
            Estimates of real queries.
        keep : float
            Above 0 and up to 1.
        """
        xp = array_namespace(values)
        ordered = xp.sort(xp.reshape(values, (-1,)), descending=True)
        count = round(keep * ordered.shape[0])
        if not 0 < count <= ordered.shape[0]:
            raise UsageError(f"no threshold keeps a share of {keep} of {ordered.shape[0]} estimates")
        return cls(float(ordered[count - 1]))

    def select(self, scores: Scores, exact: Exact) -> Shortlist:
        upper = scores.upper(self.sigma) if self.sigma else scores.values  # 0 times infinity is no number
        return read(reaching(upper, self.threshold), exact)
