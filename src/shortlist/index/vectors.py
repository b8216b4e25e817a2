"""Checks of arrays from a user: vectors of one width, finite and within a range."""

from typing import Any

import numpy as np

from shortlist.errors import UsageError

LARGEST = float(1 << 22)  # keeps scores finite in float32, and scales of 8-bit rows finite in float16


def checked(values: Any, width: int, what: str) -> np.ndarray:
    """Convert an array [count, width], or one vector [width], to float32 [count, width].

    Raises
    ------
    UsageError
        The array has another shape, holds no numbers, or holds NaN, infinity or numbers beyond `LARGEST`.
    """
    try:
        table = np.asarray(values)
        if table.dtype.kind not in "fiu":
            raise TypeError
        with np.errstate(over="ignore"):  # an overflow becomes infinite, which is refused below
            table = np.ascontiguousarray(np.atleast_2d(table), np.float32)
    except (TypeError, ValueError):
        raise UsageError(f"{what} are arrays of real numbers [count, {width}]") from None
    if table.ndim != 2 or table.shape[1] != width:
        raise UsageError(f"{what} for an index of width {width} cannot have the shape {np.shape(values)}")
    bad = np.flatnonzero(~(np.abs(table) <= LARGEST).all(axis=1))
    if len(bad):
        raise UsageError(
            f"{what} hold NaN or numbers above {LARGEST:.0f}, first in number {bad[0]}: "
            "leave them out or scale them"
        )
    return table


def with_norm_one(table: np.ndarray, what: str) -> np.ndarray:
    """Scale vectors [count, width] to norm 1.

    Raises
    ------
    UsageError
        A vector is all zeros.
    """
    norms = np.linalg.norm(table.astype(np.float64), axis=1)
    zero = np.flatnonzero(norms == 0)
    if len(zero):
        raise UsageError(
            f"{what} of an index with metric cosine need a direction: number {zero[0]} is all zeros"
        )
    return (table / norms[:, None]).astype(np.float32)
