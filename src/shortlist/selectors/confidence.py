"""Every unit that could still be the best one, at a stated number of standard deviations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from array_api_compat import array_namespace

from shortlist.errors import UsageError
from shortlist.estimators.base import Estimate
from shortlist.selectors.base import Exact, Selector, Shortlist, best, where


@dataclass(frozen=True)
class Confidence(Selector):
    """Keeps unit i when estimate_i + sigma * spread_i reaches the best exact value seen so far.

    A few units are read first, those with the best estimates; the best of their exact values is the mark. So
    the shortlist is short when the model is sure and long when it is not.

    Parameters
    ----------
    sigma : float
        Standard deviations of the estimate's error that are allowed for.
    probes : int
        Units that are read to set the mark; they stay on the shortlist.
    """

    name: ClassVar[str] = "confidence"
    needs: ClassVar[str | None] = "spread"
    sigma: float = 6.0
    probes: int = 8

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < float("inf"):
            raise UsageError(f"confidence needs a sigma of 0 or more, not {self.sigma}")
        if self.probes < 1:
            raise UsageError(f"confidence needs at least 1 probe, not {self.probes}")

    def select(self, estimate: Estimate, exact: Exact) -> Shortlist:
        spread = self.required(estimate)
        xp = array_namespace(estimate.values)
        probes = best(estimate.values, self.probes)
        probe_values = exact(probes)

        possible = where(estimate.values + self.sigma * spread >= xp.max(probe_values))
        others = possible[~xp.isin(possible, probes)]
        indices = xp.concat([probes, others])
        values = xp.concat([probe_values, exact(others)])
        order = xp.argsort(indices)
        return Shortlist(indices[order], values[order], rows_read=indices.shape[0])
