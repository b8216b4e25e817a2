"""Spend a quality budget where a byte is cheapest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

ROUNDS = 6  # combinations that are measured at most; each is nearer to what the budget allows


@dataclass(frozen=True)
class Option:
    """One way to shortlist a place.

    Attributes
    ----------
    place : str
    keep : float
        Share of the units that are read.
    saved : float
        Bytes per token that it saves against dense.
    loss : float
        What it is expected to cost, in nats per token.
    threshold : float
        That the scores of the units reach which are read.
    """

    place: str
    keep: float
    saved: float
    loss: float
    threshold: float = 0.0


@dataclass(frozen=True)
class Step:
    """From one option of a place to the next cheaper one in bytes; `loss` is what that adds."""

    option: Option
    saved: float
    loss: float

    @property
    def price(self) -> float:
        """Nats for each byte."""
        return self.loss / self.saved


def steps_by_price(options: Iterable[Option]) -> list[Step]:
    """All steps, the cheapest byte first; the steps of a place keep their order.

    Of each place only the options on the lower convex hull of loss over bytes saved remain: any other one
    is dearer than a mix of its neighbours. So the first n steps lose less than any other choice that saves as
    many bytes, as far as losses add up.
    """
    places: dict[str, list[Option]] = {}
    for option in options:
        places.setdefault(option.place, []).append(option)
    steps = [step for some in places.values() for step in _hull(some)]
    return sorted(steps, key=lambda step: step.price)  # stable, and a hull's prices rise


def _hull(options: list[Option]) -> list[Step]:
    hull: list[Step] = []
    for option in sorted(options, key=lambda option: (option.saved, option.loss)):
        if _step(hull, option).saved <= 0:  # no bytes more than one that loses no more, or than dense
            continue
        while hull and _step(hull, option).price <= hull[-1].price:
            hull.pop()
        hull.append(_step(hull, option))
    return hull


def _step(hull: list[Step], option: Option) -> Step:
    before = hull[-1].option if hull else Option(option.place, 1.0, 0.0, 0.0)
    return Step(option, option.saved - before.saved, option.loss - before.loss)


def plan(steps: Sequence[Step]) -> dict[str, Option]:
    """What a series of steps comes to: the last option of each place."""
    return {step.option.place: step.option for step in steps}


def spend(
    steps: Sequence[Step], limit: float, measure: Callable[[Sequence[Step]], float]
) -> tuple[Sequence[Step], float]:
    """The most steps, in order, whose measured loss is within the limit.

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

    Returns
    -------
    steps, loss
        Of the best series that was measured; none and 0 where none is within the limit.
    """
    expected = [0.0]
    for step in steps:
        expected.append(expected[-1] + max(step.loss, 0.0))
    within, beyond, loss, scale = 0, len(steps) + 1, 0.0, 1.0
    for _ in range(ROUNDS):
        if beyond - within == 1:
            break
        count = sum(scale * total <= limit for total in expected) - 1
        if not within < count < beyond:
            count = min((within + beyond) // 2, len(steps))
        found = measure(steps[:count])
        if found <= limit:
            within, loss = count, found
        else:
            beyond = count
        if expected[count] > 0 and found > 0:
            scale = found / expected[count]
    return steps[:within], loss
