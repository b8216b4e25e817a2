"""Rows of coordinates in 8 bits, a scale for each 32 of them: how projected rows are stored."""

from __future__ import annotations

from array_api_compat import array_namespace

from shortlist._native import GROUP  # coordinates of a row that share one scale
from shortlist.estimators.base import Array

LARGEST_SCALE = 65504.0  # the largest 16-bit float


def to_int8(rows: Array) -> tuple[Array, Array]:
    """Round rows float32 [units, rank] to int8 [units, rank] and float16 scales [units, groups]."""
    xp = array_namespace(rows)
    codes, scales = [], []
    for start in range(0, rows.shape[1], GROUP):
        part = rows[:, start : min(start + GROUP, rows.shape[1])]
        largest = xp.clip(xp.max(xp.abs(part), axis=1) / 127.0, max=LARGEST_SCALE)
        scales.append(xp.astype(largest, xp.float16))
        scale = xp.astype(scales[-1], xp.float32)[:, None]
        rounded = xp.round(part / xp.where(scale == 0, xp.ones_like(scale), scale))
        codes.append(xp.astype(xp.clip(rounded, min=-127.0, max=127.0), xp.int8))
    return xp.concat(codes, axis=1), xp.stack(scales, axis=1)


def from_int8(codes: Array, scales: Array) -> Array:
    """The rounded rows, float32 [units, rank]."""
    xp = array_namespace(codes)
    wide = xp.repeat(xp.astype(scales, xp.float32), GROUP, axis=1)[:, : codes.shape[1]]
    return xp.astype(codes, xp.float32) * wide


def int8_layout(units: int, rank: int) -> tuple[tuple[str, tuple[int, ...]], tuple[str, tuple[int, ...]]]:
    """Dtype and shape of codes and scales."""
    return ("int8", (units, rank)), ("float16", (units, -(-rank // GROUP)))


def int8_bytes(units: int, rank: int) -> int:
    """Bytes of codes and scales."""
    return units * (rank + 2 * -(-rank // GROUP))
