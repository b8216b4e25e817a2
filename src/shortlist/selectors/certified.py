"""Every unit that a bound does not rule out: the best one is among them, always."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from shortlist.errors import UsageError
from shortlist.estimators.base import Knowledge, Scores
from shortlist.selectors.base import Exact, Selector, Shortlist, reaching_probes


@dataclass(frozen=True)
class Certified(Selector):
    """Keeps the units whose upper bound reaches the best exact value of a few probes.

    Units that tie with the best one are kept too, so that the lowest index among equals is the same as over
    all units. Bounding first and refining the survivors is the pattern of the VA-file (Weber et al., VLDB
    1998).

    Parameters
    ----------
    probes : int
        Blocks of units whose best by estimate is read first, and stays on the shortlist.
    """

    name: ClassVar[str] = "certified"
    needs: ClassVar[Knowledge | None] = "bound"
    probes: int = 256

    def __post_init__(self) -> None:
        if self.probes < 1:
            raise UsageError(f"certified needs at least 1 probe, not {self.probes}")

    def select(self, scores: Scores, exact: Exact) -> Shortlist:
        return reaching_probes(scores, 1.0, self.probes, exact)
