"""The best groups of neighbouring units: what is read then lies together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from array_api_compat import array_namespace, device

from shortlist.errors import UsageError
from shortlist.estimators.base import Scores
from shortlist.selectors.base import Exact, Selector, Shortlist, as_scores, best, largest_in_groups, read
from shortlist.selectors.top_k import check_counts


@dataclass(frozen=True)
class GroupedTopK(Selector):
    """Reads the groups with the best units by estimate, and keeps the best units of them by exact value.

    A group is as good as its best unit. Each group is one contiguous read, as in the FFN of HiRE
    (https://arxiv.org/abs/2402.09360), whose group size is not published.

    Parameters
    ----------
    count : int
        Units to keep.
    fetch : int, optional
        Units to read exactly, at least `count`; rounded up to whole groups.
    group : int
        Neighbouring units that are read together. With 8, rows of 16-bit floats fill whole cache lines.
    """

    name: ClassVar[str] = "grouped_top_k"
    count: int
    fetch: int | None = None
    group: int = 8

    def __post_init__(self) -> None:
        check_counts(self.name, self.count, self.fetch)
        if self.group < 1:
            raise UsageError(f"grouped_top_k needs groups of at least 1 unit, not {self.group}")

    def select(self, scores: Scores, exact: Exact) -> Shortlist:
        values = as_scores(scores.values)
        xp = array_namespace(values)
        wanted = -(-(self.fetch or self.count) // self.group)
        groups = best(largest_in_groups(values, self.group), wanted)
        members = groups[:, None] * self.group + xp.arange(self.group, device=device(values))
        indices = xp.reshape(members, (-1,))
        return read(indices[indices < values.shape[0]], exact, self.count)
