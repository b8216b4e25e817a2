"""What comes from outside: arrays that must be vectors of one width, finite and of a reasonable size."""

from typing import Any

import numpy as np

from shortlist.errors import UsageError

LARGEST = float(1 << 22)  # scores stay finite in float32, and the scales of 8-bit rows in float16


def checked(values: Any, width: int, what: str) -> np.ndarray:
    """Float32 [count, width], of an array of that shape or of one vector [width].

    Raises
    ------
    UsageError
        It has another shape, is not of numbers, or holds NaN, infinity or numbers beyond `LARGEST`.
    """
    try:
        table = np.asarray(values)
        if table.dtype.kind not in "fiu":
            raise TypeError
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which is refused below
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
    """The directions of vectors [count, width].

    Raises
    ------
    UsageError
        One of them is all zeros.
    """
    norms = np.linalg.norm(table.astype(np.float64), axis=1)
    zero = np.flatnonzero(norms == 0)
    if len(zero):
        raise UsageError(
            f"{what} of an index with metric cosine need a direction: number {zero[0]} is all zeros"
        )
    return (table / norms[:, None]).astype(np.float32)
