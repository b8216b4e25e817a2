"""Every unit that could still be the best one, at a stated number of standard deviations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from shortlist.errors import UsageError
from shortlist.estimators.base import Knowledge, Scores
from shortlist.selectors.base import Exact, Selector, Shortlist, reaching_probes


@dataclass(frozen=True)
class Confidence(Selector):
    """Keeps unit i when value_i + sigma * scale * margin_i reaches the best exact value of a few probes.

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
    needs: ClassVar[Knowledge | None] = "confidence"
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

    def select(self, scores: Scores, exact: Exact) -> Shortlist:
        return reaching_probes(scores, self.sigma, self.probes, exact, self.most)
