"""Spend a quality budget where a byte is cheapest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

ROUNDS = 6  # combinations that are measured at most; each is nearer to what the budget allows


@dataclass(frozen=True)
class Candidate:
    """A share of the units of a site.

    Attributes
    ----------
    site : str
    keep : float
        Share of the units that are read, on average.
    saved : float
        Bytes per token, against all units.
    loss : float
        What it is expected to cost, in nats per token.
    threshold : float
        What the scores of the units that are read reach.
    change : float
        Mean squared length of what that changes in the outputs of the site, over that of the outputs.
    """

    site: str
    keep: float
    saved: float
    loss: float
    threshold: float = 0.0
    change: float = 0.0


@dataclass(frozen=True)
class Step:
    """From one candidate of a site to the next cheaper one in bytes; `loss` is what that adds."""

    candidate: Candidate
    saved: float
    loss: float

    @property
    def price(self) -> float:
        """Nats for each byte."""
        return self.loss / self.saved


def steps_by_price(candidates: Iterable[Candidate]) -> list[Step]:
    """All steps, the cheapest byte first; the steps of a site keep their order.

    Only those candidates of a site that lie on the lower convex hull of loss over bytes saved remain: any
    other one is dearer than a mix of its neighbours. So the first n steps lose less than any other choice
    that saves as many bytes, as far as losses add up.
    """
    sites: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        sites.setdefault(candidate.site, []).append(candidate)
    steps = [step for some in sites.values() for step in _hull(some)]
    return sorted(steps, key=lambda step: step.price)  # stable, and a hull's prices rise


def _hull(candidates: list[Candidate]) -> list[Step]:
    hull: list[Step] = []
    for candidate in sorted(candidates, key=lambda candidate: (candidate.saved, candidate.loss)):
        if _step(hull, candidate).saved <= 0:  # no bytes more than one that loses no more, or than dense
            continue
        while hull and _step(hull, candidate).price <= hull[-1].price:
            hull.pop()
        hull.append(_step(hull, candidate))
    return hull


def _step(hull: list[Step], candidate: Candidate) -> Step:
    before = hull[-1].candidate if hull else Candidate(candidate.site, 1.0, 0.0, 0.0)
    return Step(candidate, candidate.saved - before.saved, candidate.loss - before.loss)


def plan(steps: Sequence[Step]) -> dict[str, Candidate]:
    """What a series of steps comes to: the last candidate of each site."""
    return {step.candidate.site: step.candidate for step in steps}


def spend(
    steps: Sequence[Step], limit: float, measure: Callable[[Sequence[Step]], float]
) -> Iterator[tuple[Sequence[Step], float]]:
    """Find the most steps, in order, whose measured loss is within the limit.

    Losses do not add up exactly, so combinations are measured: after each, all expected losses are scaled by
    measured over expected, which says how far to go next.

    Parameters
    ----------
    steps : sequence of Step
        As `steps_by_price` orders them.
    limit : float
        Nats per token.
    measure : callable
        The loss of a series of steps, measured.

    Yields
    ------
    steps, loss
        Each series within the limit, longer than the one before.
    """
    expected = [0.0]
    for step in steps:
        expected.append(expected[-1] + max(step.loss, 0.0))
    within, beyond, scale = 0, len(steps) + 1, 1.0
    for _ in range(ROUNDS):
        if beyond - within == 1:
            break
        count = sum(scale * total <= limit for total in expected) - 1
        if not within < count < beyond:
            count = min((within + beyond) // 2, len(steps))
        found = measure(steps[:count])
        if found <= limit:
            within = count
            yield steps[:count], found
        else:
            beyond = count
        if expected[count] > 0 and found > 0:
            scale = found / expected[count]


def lowered(steps: Sequence[Step], share: float) -> Sequence[Step]:
    """The steps that are expected to cost a share of what all cost; at least one fewer."""
    expected = list(accumulate(step.loss for step in steps))
    if not expected:
        return steps
    count = sum(total <= share * expected[-1] for total in expected)
    return steps[: min(count, len(steps) - 1)]
