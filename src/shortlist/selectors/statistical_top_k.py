"""About the best k units, by the mean and the deviation of the estimates alone."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import ClassVar

from array_api_compat import array_namespace

from shortlist.errors import UsageError
from shortlist.estimators.base import Scores
from shortlist.selectors.base import Exact, Selector, Shortlist, reaching, read


@dataclass(frozen=True)
class StatisticalTopK(Selector):
    """Keeps the units whose estimate reaches mean + deviation * (normal quantile of 1 - keep).

    Two passes and no sorting, as in Spark Transformer (https://arxiv.org/abs/2506.06644) and in the first
    layers of Gemma 3n, with the deviation over all units as there. About `keep` of the units where the
    estimates are near normal, another share where they are not. Where an estimate is not finite there is no
    threshold, and every unit is kept.

    Parameters
    ----------
    keep : float
        Share of the units, above 0 and up to 1.
    """

    name: ClassVar[str] = "statistical_top_k"
    keep: float

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise UsageError(f"statistical_top_k keeps a share above 0 and up to 1, not {self.keep}")

    def select(self, scores: Scores, exact: Exact) -> Shortlist:
        values = scores.values
        xp = array_namespace(values)
        if self.keep == 1 or values.shape[0] == 0:
            threshold = float("-inf")
        else:
            mean = xp.mean(values)
            centred = values - mean
            deviation = (xp.vecdot(centred, centred) / values.shape[0]) ** 0.5  # half of what xp.std takes
            threshold = mean + deviation * NormalDist().inv_cdf(1 - self.keep)
        return read(reaching(values, threshold), exact)
