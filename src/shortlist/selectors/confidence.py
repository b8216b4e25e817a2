"""Every unit that could still be the best one, at a stated number of standard deviations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from shortlist.errors import UsageError
from shortlist.estimators.base import Estimate
from shortlist.selectors.base import Exact, Selector, Shortlist, contenders


@dataclass(frozen=True)
class Confidence(Selector):
    """Keeps unit i when estimate_i + sigma * spread_i reaches the best exact value of a few probes.

    So the shortlist is short when the model is sure and long when it is not.

    Parameters
    ----------
    sigma : float
        Standard deviations of the estimate's error that are allowed for.
    probes : int
        Blocks of units whose best by estimate is read first; see `contenders`.
    """

    name: ClassVar[str] = "confidence"
    needs: ClassVar[str | None] = "spread"
    sigma: float = 6.0
    probes: int = 128

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < float("inf"):
            raise UsageError(f"confidence needs a sigma of 0 or more, not {self.sigma}")
        if self.probes < 1:
            raise UsageError(f"confidence needs at least 1 probe, not {self.probes}")

    def select(self, estimate: Estimate, exact: Exact) -> Shortlist:
        return contenders(estimate.values, self.sigma * self.required(estimate), self.probes, exact)
