"""Rows of coordinates in 4 bits, a scale for each 32 of them: for those that carry little."""

from __future__ import annotations

from array_api_compat import array_namespace

from shortlist.estimators.base import Array
from shortlist.estimators.int8_codes import GROUP, LARGEST_SCALE

PAIRS = GROUP // 2  # bytes of a group: coordinate j in the low half of byte j, j + 16 in its high half


def to_int4(rows: Array) -> tuple[Array, Array]:
    """Round rows float32 [units, rank], rank a multiple of 32, to 4 bits.

    Returns
    -------
    codes : uint8 [units, rank / 2]
        value = scale * (code - 8).
    scales : float16 [units, rank / 32]
        The coordinate of the largest size is 8 of them below zero, so they may be negative.
    """
    xp = array_namespace(rows)
    units, rank = rows.shape
    groups = xp.reshape(rows, (units, rank // GROUP, GROUP))
    low, high = xp.min(groups, axis=2), xp.max(groups, axis=2)
    scales = xp.where(-low > high, low, high) / -8.0
    scales = xp.astype(xp.clip(scales, min=-LARGEST_SCALE, max=LARGEST_SCALE), xp.float16)
    steps = xp.astype(scales, xp.float32)[:, :, None]
    rounded = xp.round(groups / xp.where(steps == 0, xp.ones_like(steps), steps)) + 8.0
    codes = xp.astype(xp.clip(rounded, min=0.0, max=15.0), xp.uint8)
    packed = codes[:, :, :PAIRS] | (codes[:, :, PAIRS:] << 4)
    return xp.reshape(packed, (units, rank // 2)), scales


def from_int4(codes: Array, scales: Array) -> Array:
    """The rounded rows, float32 [units, rank]."""
    xp = array_namespace(codes)
    units, groups = scales.shape
    pairs = xp.reshape(codes, (units, groups, PAIRS))
    whole = xp.astype(xp.concat([pairs & 15, pairs >> 4], axis=2), xp.float32)
    return xp.reshape((whole - 8.0) * xp.astype(scales, xp.float32)[:, :, None], (units, groups * GROUP))


def int4_layout(units: int, rank: int) -> tuple[tuple[str, tuple[int, ...]], tuple[str, tuple[int, ...]]]:
    """Dtype and shape of codes and scales."""
    return ("uint8", (units, rank // 2)), ("float16", (units, rank // GROUP))


def int4_bytes(units: int, rank: int) -> int:
    """Bytes of codes and scales."""
    return units * (rank // 2 + 2 * (rank // GROUP))
