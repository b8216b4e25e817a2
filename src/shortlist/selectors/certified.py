"""Every unit that a bound does not rule out: the best one is among them, always."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from array_api_compat import array_namespace

from shortlist.estimators.base import Estimate
from shortlist.selectors.base import Exact, Selector, Shortlist, where


@dataclass(frozen=True)
class Certified(Selector):
    """Keeps the units whose upper bound reaches the best lower bound.

    Every unit that ties with the best one is kept too, so that the lowest index among equals is the same as
    over all units. The pattern of bounding first and refining the survivors is that of the VA-file (Weber et
    al., VLDB 1998).
    """

    name: ClassVar[str] = "certified"
    needs: ClassVar[str | None] = "bound"

    def select(self, estimate: Estimate, exact: Exact) -> Shortlist:
        bound = self.required(estimate)
        xp = array_namespace(estimate.values)
        mark = xp.max(estimate.values - bound)
        indices = where(~(estimate.values + bound < mark))  # a comparison with NaN rules nothing out
        return Shortlist(indices, exact(indices), rows_read=indices.shape[0])
