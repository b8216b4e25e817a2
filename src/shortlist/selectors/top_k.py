"""The best units by estimate; over-fetched, the best by exact value among more than are needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from shortlist.errors import UsageError
from shortlist.estimators.base import Scores
from shortlist.selectors.base import Exact, Selector, Shortlist, best, read


@dataclass(frozen=True)
class TopK(Selector):
    """Reads the `fetch` best units by estimate exactly and keeps the `count` best of them.

    Over-fetching buys recall: the units that are truly best only have to be among those fetched, in any
    order (HiRE, https://arxiv.org/abs/2402.09360). With `fetch` left out, what is read is what is kept.

    Parameters
    ----------
    count : int
        Units to keep.
    fetch : int, optional
        Units to read exactly, at least `count`.
    """

    name: ClassVar[str] = "top_k"
    count: int
    fetch: int | None = None

    def __post_init__(self) -> None:
        check_counts(self.name, self.count, self.fetch)

    def select(self, scores: Scores, exact: Exact) -> Shortlist:
        return read(best(scores.values, self.fetch or self.count), exact, self.count)


def check_counts(name: str, count: int, fetch: int | None) -> None:
    """Raise `UsageError` where a selector cannot keep `count` of `fetch` units."""
    if count < 1:
        raise UsageError(f"{name} keeps at least 1 unit, not {count}")
    if fetch is not None and fetch < count:
        raise UsageError(f"{name} cannot keep {count} of {fetch} fetched units")
