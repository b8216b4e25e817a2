"""A fixed number of units where the best one leads clearly, all units where it does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from array_api_compat import array_namespace, device

from shortlist.errors import UsageError
from shortlist.estimators.base import Scores
from shortlist.selectors.base import Exact, Probes, Selector, Shortlist, as_scores, best, complete, read


@dataclass(frozen=True)
class Margin(Selector):
    """Reads the `fetch` best units by estimate, and all others too where the margin is low.

    The margin is what the best exact value among those leads by over the best estimate of the others: a unit
    off the list can only win where its estimate is too low by as much. Models separate classes by such
    margins (https://arxiv.org/abs/2310.05351), so most tokens are decided with few units. Unlike `confidence`
    it needs no knowledge of the errors, and its cost is one of two figures.

    Parameters
    ----------
    fetch : int
        Units to read at first.
    margin : float
        Least lead, in units of the estimate, that settles the matter; 0 or more.
    """

    name: ClassVar[str] = "margin"
    fetch: int = 256
    margin: float = 1.0

    def __post_init__(self) -> None:
        if self.fetch < 1:
            raise UsageError(f"margin reads at least 1 unit, not {self.fetch}")
        if not self.margin >= 0:
            raise UsageError(f"margin needs a lead of 0 or more, not {self.margin}")

    def select(self, scores: Scores, exact: Exact) -> Shortlist:
        values = as_scores(scores.values)
        xp = array_namespace(values)
        if self.fetch >= values.shape[0]:
            return read(best(values, self.fetch), exact)
        more = best(values, self.fetch + 1)
        next_best = xp.min(values[more])
        last = xp.max(more[values[more] == next_best])  # of equals the lowest indices come first
        first = more[more != last]
        shortlist = read(first, exact)
        mark = xp.max(shortlist.values)
        if mark - next_best >= self.margin:
            return shortlist
        units = xp.arange(values.shape[0], device=device(values))
        return complete(Probes(first, shortlist.values, mark), units, exact)
