"""Approximate top-k in two stages: the best of each bucket, and the best of these, for a stated recall."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import exp, lgamma
from typing import ClassVar

from array_api_compat import array_namespace, device

from shortlist.errors import UsageError
from shortlist.estimators.base import Array, Scores
from shortlist.selectors.base import Exact, Selector, Shortlist, as_scores, best, read
from shortlist.selectors.top_k import check_counts

PER_BUCKET = (1, 2, 4)  # survivors of a bucket that are considered; each is one more pass
ROUNDING = 1e-9  # of the expected recall: its logarithms of factorials are large numbers


@dataclass(frozen=True)
class TwoStageTopK(Selector):
    """Reads nearly the best `fetch` units by estimate and keeps the `count` best of them by exact value.

    Unit i belongs to bucket i mod buckets. The first stage keeps a few units of each bucket, the second the
    best of all that are left (https://arxiv.org/abs/2206.14286; more than one per bucket:
    https://arxiv.org/abs/2506.04165). Buckets are as few as the recall allows.

    Parameters
    ----------
    count : int
        Units to keep.
    fetch : int, optional
        Units to read exactly, at least `count`.
    recall : float
        Expected share of the best `fetch` units by estimate that are found, where good units lie at random
        places.
    """

    name: ClassVar[str] = "two_stage_top_k"
    count: int
    fetch: int | None = None
    recall: float = 0.95

    def __post_init__(self) -> None:
        check_counts(self.name, self.count, self.fetch)
        if not 0 < self.recall <= 1:
            raise UsageError(f"two_stage_top_k needs a recall above 0 and up to 1, not {self.recall}")

    def select(self, scores: Scores, exact: Exact) -> Shortlist:
        values = scores.values
        xp = array_namespace(values)
        wanted = self.fetch or self.count
        if wanted < values.shape[0]:
            buckets, per_bucket = plan(values.shape[0], wanted, self.recall)
            survivors = xp.sort(best_of_buckets(values, buckets, per_bucket))
            indices = survivors[best(values[survivors], wanted)]
        else:
            indices = best(values, wanted)
        return read(indices, exact, self.count)


def best_of_buckets(values: Array, buckets: int, per_bucket: int) -> Array:
    """Indices of the best `per_bucket` units of each bucket (all, where it has fewer), in no order."""
    xp = array_namespace(values)
    units = values.shape[0]
    size = -(-units // buckets)
    values = xp.clip(as_scores(values), min=xp.finfo(values.dtype).min)  # above what is taken or missing
    nothing = float("-inf")
    padding = xp.full((size * buckets - units,), nothing, dtype=values.dtype, device=device(values))
    left = xp.reshape(xp.concat([values, padding]), (size, buckets))
    places = xp.arange(size, device=device(values))[:, None]
    columns = xp.arange(buckets, device=device(values))
    found = []
    for _ in range(per_bucket):
        place = xp.argmax(left, axis=0)
        there = xp.max(left, axis=0) > nothing
        found.append((place * buckets + columns)[there])
        left = xp.where(places == place, xp.full_like(left, nothing), left)
    return xp.concat(found)


def expected_recall(units: int, count: int, buckets: int, per_bucket: int) -> float:
    """Share of the best `count` units that survive the first stage, where they lie at random places.

    With X of them in a bucket, hypergeometric, it is the sum over buckets of E[min(per_bucket, X)] / count.
    """
    size, larger = divmod(units, buckets)  # so many buckets have one unit more
    found = larger * _survivors(units, count, size + 1, per_bucket)
    found += (buckets - larger) * _survivors(units, count, size, per_bucket)
    return found / count


@cache
def plan(units: int, count: int, recall: float) -> tuple[int, int]:
    """Buckets, and survivors of each, that reach the expected recall with the fewest survivors."""
    plans = []
    for per_bucket in PER_BUCKET:
        low, high = 1, units  # with a bucket for every unit nothing is lost
        while low < high:
            middle = (low + high) // 2
            if expected_recall(units, count, middle, per_bucket) >= recall - ROUNDING:
                high = middle
            else:
                low = middle + 1
        plans.append((low * per_bucket, low, per_bucket))
    _, buckets, per_bucket = min(plans)
    return buckets, per_bucket


def _survivors(units: int, count: int, size: int, per_bucket: int) -> float:
    """Expected number of the best `count` units that survive in a bucket of this size."""
    lost = sum((per_bucket - x) * _probability(x, units, count, size) for x in range(per_bucket))
    return per_bucket - lost


def _probability(x: int, units: int, marked: int, drawn: int) -> float:
    """Hypergeometric probability of x marked units among those drawn."""
    if x > marked or x > drawn or drawn - x > units - marked:
        return 0.0
    return exp(_log_choose(marked, x) + _log_choose(units - marked, drawn - x) - _log_choose(units, drawn))


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
