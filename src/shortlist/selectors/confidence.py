"""Every unit that could still be the best one, at a stated number of standard deviations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from array_api_compat import array_namespace, device

from shortlist.errors import UsageError
from shortlist.estimators.base import Estimate
from shortlist.selectors.base import Exact, Selector, Shortlist, complete, probe, reaching


@dataclass(frozen=True)
class Confidence(Selector):
    """Keeps unit i when estimate_i + sigma * spread_i reaches the best exact value of a few probes.

    So the shortlist is short when the model is sure and long when it is not. Where it would be longer than
    `most`, every unit is on it: reading all in a row is then faster than picking them, and certain.

    Parameters
    ----------
    sigma : float
        Standard deviations of the estimate's error that are allowed for.
    most : int, optional
        Units, the probes apart, that a list that is not of all may have.
    probes : int
        Blocks of units whose best by estimate is read first, and stays on the shortlist.
    """

    name: ClassVar[str] = "confidence"
    needs: ClassVar[str | None] = "spread"
    sigma: float = 6.0
    most: int | None = None
    probes: int = 256

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < float("inf"):
            raise UsageError(f"confidence needs a sigma of 0 or more, not {self.sigma}")
        if self.most is not None and self.most < 1:
            raise UsageError(f"confidence keeps 1 unit or more before it takes all, not {self.most}")
        if self.probes < 1:
            raise UsageError(f"confidence needs at least 1 probe, not {self.probes}")

    def select(self, estimate: Estimate, exact: Exact) -> Shortlist:
        values, spread = estimate.values, self.required(estimate)
        probes = probe(values, self.probes, exact)
        chosen = reaching(values + self.sigma * spread, probes.mark)
        if self.most is not None and chosen.shape[0] > self.most:
            xp = array_namespace(values)
            chosen = xp.arange(values.shape[0], device=device(values))
        return complete(probes, chosen, exact)
