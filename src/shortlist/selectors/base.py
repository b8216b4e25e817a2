"""What a selector is: it turns the scores of all units into the few that are computed exactly."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar, NamedTuple

import numpy as np
from array_api_compat import array_namespace, device

from shortlist import _native
from shortlist.errors import UsageError
from shortlist.estimators import ESTIMATORS
from shortlist.estimators.base import Array, Knowledge, Scores

BLOCKS_PER_UNIT = 4  # blocks of the first pass of `best`, for each unit that is wanted

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
    needs: ClassVar[Knowledge | None] = None  # what the margins of the scores must be

    @abstractmethod
    def select(self, scores: Scores, exact: Exact) -> Shortlist:
        """Choose among the units of one query.

        Parameters
        ----------
        scores : Scores
            Of one query: values [units].
        exact : callable
            Computes the exact values of the units that it is given. A selector may look before it leaps.
        """

    def check(self, estimator: str, gives: Knowledge | None) -> None:
        """Raise `UsageError` where this selector needs what the estimator does not give."""
        if self.needs is not None and self.needs != gives:
            able = sorted(name for name, kind in ESTIMATORS.items() if kind.gives == self.needs)
            raise UsageError(
                f"selector {self.name} needs a {self.needs}, which {estimator} does not give; "
                f"estimators that do: {', '.join(able)}"
            )


def best(values: Array, count: int) -> Array:
    """Indices of the largest `count` values (all, where there are fewer), ascending.

    Among equal values the lowest indices win, as in an argmax over all of them. A value that is not a number
    says nothing of its unit, which therefore comes before all others. NumPy's float32, what decoding has,
    takes a native call; other arrays, and its test, the lines below.
    """
    xp = array_namespace(values)
    values = as_scores(values)
    if isinstance(values, np.ndarray) and values.dtype == np.float32 and 1 <= count <= values.shape[0]:
        return _native.shortlist_each(values[None], count)[0].astype(np.int64)
    candidates = xp.nonzero(values >= _floor(values, count))[0]
    order = xp.argsort(values[candidates], descending=True, stable=True)
    return xp.sort(candidates[order[:count]])


def as_scores(values: Array) -> Array:
    """The values, with infinity where they are not a number: what nothing is known of is not left out."""
    xp = array_namespace(values)
    unknown = xp.isnan(values)
    if not xp.any(unknown):  # a copy would cost more than all the rest of a selection
        return values
    return xp.where(unknown, xp.full_like(values, float("inf")), values)


def _floor(values: Array, count: int) -> Array:
    """A value that the `count`-th largest is not below, found without sorting all of them.

    Deal the units to many blocks and take the largest of each: the `count`-th largest of these is reached by
    `count` units at least, and by few others, so that sorting is no longer what a selection costs.
    """
    xp = array_namespace(values)
    blocks = BLOCKS_PER_UNIT * count
    size = values.shape[0] // blocks
    if size < 2:
        return xp.asarray(float("-inf"), dtype=values.dtype, device=device(values))
    largest = xp.max(xp.reshape(values[: size * blocks], (size, blocks)), axis=0)
    return xp.sort(largest)[blocks - count]


def in_groups(values: Array, size: int) -> Array:
    """Values [..., units] as runs of `size` neighbours [..., groups, size]; what is missing is -infinity."""
    xp = array_namespace(values)
    units = values.shape[-1]
    groups = -(-units // size)
    missing = (*values.shape[:-1], groups * size - units)
    padding = xp.full(missing, float("-inf"), dtype=values.dtype, device=device(values))
    return xp.reshape(xp.concat([values, padding], axis=-1), (*values.shape[:-1], groups, size))


def largest_in_groups(values: Array, size: int) -> Array:
    """The largest value of each run of `size` neighbours [..., groups]."""
    xp = array_namespace(values)
    cut = in_groups(values, size)
    # One long pass for each place in a group: NumPy takes five times as long for the maximum of a short axis.
    return reduce(xp.maximum, (cut[..., place] for place in range(size)))


def best_of_blocks(values: Array, blocks: int) -> Array:
    """Index of the largest value in each of at most `blocks` equal runs of the units [..., blocks].

    Nearly as good as the largest `blocks` values, and found in one pass by any number of threads.
    """
    xp = array_namespace(values)
    size = max(1, -(-values.shape[-1] // blocks))
    cut = in_groups(values, size)
    return xp.argmax(cut, axis=-1) + size * xp.arange(cut.shape[-2], device=device(values))


def read(indices: Array, exact: Exact, count: int | None = None) -> Shortlist:
    """Read the units at `indices`, ascending, and keep the `count` best by exact value (default: all)."""
    values = exact(indices)
    rows_read = indices.shape[0]
    if count is not None:
        kept = best(values, count)
        indices, values = indices[kept], values[kept]
    return Shortlist(indices, values, rows_read)


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
    nothing = xp.asarray(float("-inf"), dtype=values.dtype, device=device(values))
    return Probes(indices, exact_values, xp.max(exact_values) if indices.shape[0] else nothing)


def reaching(upper: Array, mark: Array) -> Array:
    """Indices of the units whose upper end [units] reaches the mark, ascending."""
    xp = array_namespace(upper)
    return xp.nonzero(~(upper < mark))[0]  # written so that NaN rules nothing out


def reaching_probes(
    scores: Scores, times: float, count: int, exact: Exact, most: int | None = None
) -> Shortlist:
    """The units whose upper end reaches the best of `count` probes, and the probes.

    Parameters
    ----------
    times : float
        What multiplies the scale of the scores.
    most : int, optional
        Where more units than so many reach the mark, all units are on the shortlist.
    """
    probes = probe(scores.values, count, exact)
    chosen = reaching(scores.upper(times), probes.mark)
    if most is not None and chosen.shape[0] > most:
        xp = array_namespace(scores.values)
        chosen = xp.arange(scores.values.shape[0], device=device(scores.values))
    return complete(probes, chosen, exact)


def complete(probes: Probes, chosen: Array, exact: Exact) -> Shortlist:
    """The shortlist of the probes and the chosen units, which are read where they are no probes."""
    xp = array_namespace(probes.values)
    others = chosen[~xp.isin(chosen, probes.indices)]
    indices = xp.concat([probes.indices, others])
    values = xp.concat([probes.values, exact(others)])
    order = xp.argsort(indices)
    return Shortlist(indices[order], values[order], rows_read=indices.shape[0])
