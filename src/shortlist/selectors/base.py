"""What a selector is: it turns the scores of all units into the few that are computed exactly."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from array_api_compat import array_namespace, device

from shortlist.errors import UsageError
from shortlist.estimators import ESTIMATORS
from shortlist.estimators.base import Array, Estimate

Exact = Callable[[Array], Array]  # indices [count] -> their exact values [count]


@dataclass(frozen=True)
class Shortlist:
    """The units that were chosen.

    Attributes
    ----------
    indices : integer array [count]
        Ascending, without repeats.
    values : array [count]
        Their exact values.
    rows_read : int
        Units that were computed exactly to choose them, the chosen ones included: what the choice cost.
    """

    indices: Array
    values: Array
    rows_read: int


class Selector(ABC):
    """Chooses units by their estimates; a frozen dataclass whose fields are the options of the method."""

    name: ClassVar[str]
    needs: ClassVar[str | None] = None  # "spread" or "bound" of the estimate

    @abstractmethod
    def select(self, estimate: Estimate, exact: Exact) -> Shortlist:
        """Choose among the units of one query.

        Parameters
        ----------
        estimate : Estimate
            Of one query: values [units].
        exact : callable
            Computes the exact values of the units that it is given. A selector may look before it leaps.
        """

    def check(self, estimator: str, gives: frozenset[str]) -> None:
        """Raise `UsageError` where this selector needs what the estimator does not give."""
        if self.needs is not None and self.needs not in gives:
            able = sorted(name for name, kind in ESTIMATORS.items() if self.needs in kind.gives)
            raise UsageError(
                f"selector {self.name} needs the {self.needs} of the estimate, which {estimator} does not "
                f"give; estimators that do: {', '.join(able)}"
            )

    def required(self, estimate: Estimate) -> Array:
        """The part of `estimate` that this selector `needs`."""
        parts = {"spread": estimate.spread, "bound": estimate.bound}
        self.check("this estimator", frozenset(name for name, part in parts.items() if part is not None))
        return parts[str(self.needs)]


def best(values: Array, count: int) -> Array:
    """Indices of the largest `count` values (all, where there are fewer), ascending.

    Among equal values the lowest indices win, as in an argmax over all of them.
    """
    xp = array_namespace(values)
    return xp.sort(xp.argsort(values, descending=True, stable=True)[:count])


def best_of_blocks(values: Array, blocks: int) -> Array:
    """Index of the largest value in each of at most `blocks` equal runs of the units [..., blocks].

    Nearly as good as the largest `blocks` values, and found in one pass by any number of threads.
    """
    xp = array_namespace(values)
    units = values.shape[-1]
    size = -(-units // blocks)
    blocks = -(-units // size)
    missing = (*values.shape[:-1], blocks * size - units)
    padding = xp.full(missing, float("-inf"), dtype=values.dtype, device=device(values))
    cut = xp.reshape(xp.concat([values, padding], axis=-1), (*values.shape[:-1], blocks, size))
    return xp.argmax(cut, axis=-1) + size * xp.arange(blocks, device=device(values))


class Probes(NamedTuple):
    """A few units that were read first; `mark` is the best of their exact values."""

    indices: Array
    values: Array
    mark: Array


def probe(values: Array, count: int, exact: Exact) -> Probes:
    """Read the best unit by estimate in each of `count` blocks.

    Their best value is a mark that others have to reach: far higher than the best lower end of an interval,
    at the price of a few rows.
    """
    xp = array_namespace(values)
    indices = best_of_blocks(values, count)
    exact_values = exact(indices)
    return Probes(indices, exact_values, xp.max(exact_values))


def reaching(upper: Array, mark: Array) -> Array:
    """Indices of the units whose upper end [units] reaches the mark, ascending."""
    xp = array_namespace(upper)
    return xp.nonzero(~(upper < mark))[0]  # written so that NaN rules nothing out


def complete(probes: Probes, chosen: Array, exact: Exact) -> Shortlist:
    """The shortlist of the probes and the chosen units, which are read where they are no probes."""
    xp = array_namespace(probes.values)
    others = chosen[~xp.isin(chosen, probes.indices)]
    indices = xp.concat([probes.indices, others])
    values = xp.concat([probes.values, exact(others)])
    order = xp.argsort(indices)
    return Shortlist(indices[order], values[order], rows_read=indices.shape[0])
