"""As many of the best units as hold a share of the score mass: k differs from query to query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from array_api_compat import array_namespace

from shortlist.errors import UsageError
from shortlist.estimators.base import Array, Estimate
from shortlist.selectors.base import Exact, Selector, Shortlist, as_scores, read


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

    def select(self, estimate: Estimate, exact: Exact) -> Shortlist:
        values = as_scores(estimate.values)
        xp = array_namespace(values)
        order = xp.argsort(values, descending=True, stable=True)
        held = xp.cumulative_sum(xp.astype(self._masses(values[order]), xp.float64), include_initial=True)
        before, total = held[:-1], held[-1]
        if self.mass < 1 and xp.isfinite(total):
            order = order[before < self.mass * total]
        return read(xp.sort(order), exact)

    def _masses(self, values: Array) -> Array:
        """Mass of each of the values, which are in descending order."""
        xp = array_namespace(values)
        return xp.exp(values - values[:1]) if self.scores == "logits" else xp.clip(values, min=0.0)
