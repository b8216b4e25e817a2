"""As many of the best units as hold a share of the score mass: k differs from query to query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from array_api_compat import array_namespace, device

from shortlist.errors import UsageError
from shortlist.estimators.base import Array, Scores
from shortlist.selectors.base import Exact, Selector, Shortlist, as_scores, best, read

FIRST, MORE = 256, 8  # units that are tried first, and how many times as many next


@dataclass(frozen=True)
class ScoreMass(Selector):
    """Keeps the fewest units whose estimated mass is a share `mass` of that of all units.

    A fixed k is too large where few units carry the sum and too small where many do (Fire Together Wire
    Together, https://arxiv.org/abs/2110.08232). Where the mass of all units is not finite every unit is kept.

    Parameters
    ----------
    mass : float
        Share of the mass, above 0 and up to 1.
    scores : {"sizes", "logits"}
        What the estimates are: sizes of contributions, the mass itself (negative ones count as nothing), or
        logits, whose mass is their softmax.
    """

    name: ClassVar[str] = "score_mass"
    mass: float
    scores: Literal["sizes", "logits"] = "sizes"

    def __post_init__(self) -> None:
        if not 0 < self.mass <= 1:
            raise UsageError(f"score_mass keeps a share above 0 and up to 1, not {self.mass}")
        if self.scores not in ("sizes", "logits"):
            raise UsageError(f"scores of score_mass are sizes or logits, not {self.scores}")

    def select(self, scores: Scores, exact: Exact) -> Shortlist:
        values = as_scores(scores.values)
        xp = array_namespace(values)
        units = values.shape[0]
        indices = xp.arange(units, device=device(values))
        if self.mass == 1 or units == 0:
            return read(indices, exact)
        largest = xp.max(values)
        total = xp.sum(self._masses(values, largest))
        if xp.isfinite(total):
            indices = self._fewest(values, largest, total)
        return read(indices, exact)

    def _fewest(self, values: Array, largest: Array, total: Array) -> Array:
        """Indices of the best units, ascending, more and more until they hold the share."""
        xp = array_namespace(values)
        count = FIRST
        while True:
            some = best(values, count)
            order = some[xp.argsort(values[some], descending=True, stable=True)]
            held = xp.cumulative_sum(self._masses(values[order], largest), include_initial=True)
            if count >= values.shape[0] or held[-1] >= self.mass * total:
                return xp.sort(order[held[:-1] < self.mass * total])
            count *= MORE

    def _masses(self, values: Array, largest: Array) -> Array:
        xp = array_namespace(values)
        masses = xp.exp(values - largest) if self.scores == "logits" else xp.clip(values, min=0.0)
        return xp.astype(masses, xp.float64)
