"""Upper 4 bits of 8-bit rows, with a bound on what the lower 4 bits and all rounding can add.

This is the readable twin of the native kernel behind `--exact`: scores from half of the bytes, and an
interval that always contains the value that the dense kernel computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from array_api_compat import array_namespace

from shortlist._native import GROUP  # inputs that share one scale, in the rows and in the query
from shortlist.errors import UsageError
from shortlist.estimators.base import (
    Array,
    Estimator,
    Knowledge,
    PackedTable,
    Progress,
    Scores,
    State,
    table_chunks,
    table_shape,
)

# Why the bound always holds is derived above the kernel that ships, `upper_rows8` in
# native/kernels/strips.inl. It covers any order of the sums, this one too, and these are its constants.
LOWER_HALF_RANGE = 7.5
ROUNDING_WEIGHT = 1024.0
UNDERFLOW_PER_GROUP = 2.0**-102
LARGEST_QUERY = 2.0**100
SMALLEST_NORMAL = 2.0**-126


def bound_factor(groups: int) -> float:
    """Factor that makes the bound hold for rows of this many groups, padded to an even number."""
    roundings = (2 * (groups + groups % 2) + 16) * 2.0**-24
    return LOWER_HALF_RANGE + ROUNDING_WEIGHT * roundings / (1 - roundings)


def quantize_query(query: Array) -> tuple[Array, Array]:
    """Round a query to 8 bits in groups of 32, as the native kernels do.

    Parameters
    ----------
    query : array [..., width]
        Width must be a multiple of 32.

    Returns
    -------
    codes : float32 [..., groups, 32]
        Integers from -127 to 127.
    scales : float32 [..., groups]
        `codes * scales` is the rounded query. A group too small for a normal scale counts as zero.
    """
    xp = array_namespace(query)
    groups = xp.reshape(xp.astype(query, xp.float32), (*query.shape[:-1], -1, GROUP))
    scales = xp.max(xp.abs(groups), axis=-1) / 127.0
    zero = scales < SMALLEST_NORMAL
    codes = xp.round(groups / xp.where(zero, xp.ones_like(scales), scales)[..., None])
    codes = xp.where(zero[..., None], xp.zeros_like(codes), codes)
    return codes, xp.where(zero, xp.zeros_like(scales), scales)


def split_planes(codes: Array, scales: Array) -> State:
    """State of 8-bit rows: their upper and lower 4 bits apart, two inputs to a byte.

    Parameters
    ----------
    codes : uint8 [units, width]
        Weight plus 128, in units of the group's scale.
    scales : float16 [units, groups]
        Finite; one for each 32 inputs.
    """
    return {"upper": _pack_nibbles(codes >> 4), "lower": _pack_nibbles(codes & 15), "scales": scales}


def row_values(state: State, query: Array, rows: Array) -> Array:
    """Dense values of some rows [..., count] from both planes: what the bound is about."""
    xp = array_namespace(query)
    codes, query_scales = quantize_query(query)
    upper, lower = (_unpack_nibbles(state[plane][rows, :], codes) for plane in ("upper", "lower"))
    sums = xp.sum((16.0 * upper + lower - 128.0) * codes[..., None, :, :], axis=-1)
    scales = xp.astype(state["scales"][rows, :], xp.float32)
    return xp.sum(scales * query_scales[..., None, :] * sums, axis=-1)


@dataclass(frozen=True)
class BitPlanes(Estimator):
    """Scores 8-bit rows by their upper 4 bits; the bound always holds, rounding included.

    State: `upper` and `lower` uint8 [units, width / 2], `scales` float16 [units, width / 32]. A query reads
    `upper` and `scales`; a row that the bound does not rule out reads its part of `lower` too.

    The idea of an approximation with a bound, refined where the bound does not decide, is that of the VA-file
    (Weber et al., VLDB 1998).
    """

    name: ClassVar[str] = "bit_planes"
    gives: ClassVar[Knowledge | None] = "bound"
    from_table: ClassVar[bool] = True

    def fit(self, table: Array | PackedTable, queries: Array, progress: Progress | None = None) -> State:
        """Quantize the rows to 8 bits in groups of 32 and split them; `queries` only give the namespace.

        Rows that already are 8-bit with 16-bit scales, such as Q8_0, keep their values.
        """
        xp = array_namespace(queries)
        units, width = table_shape(table)
        if width % GROUP:
            raise UsageError(f"bit_planes needs a width that is a multiple of {GROUP}, not {width}")
        parts = []
        for rows, chunk in table_chunks(table, like=queries):
            parts.append(_quantize_rows(chunk))
            if progress:
                progress(rows.stop / units)
        codes, scales = (xp.concat(part, axis=0) for part in zip(*parts, strict=True))
        return split_planes(codes, scales)

    def score(self, state: State, query: Array) -> Scores:
        xp = array_namespace(query)
        codes, query_scales = quantize_query(query)
        upper = _unpack_nibbles(state["upper"], codes)
        scales = xp.astype(state["scales"], xp.float32)
        groups = scales.shape[-1]

        # Products of small integers: float32 holds them and their sums exactly.
        sums = 16.0 * xp.sum(upper * codes[..., None, :, :], axis=-1)
        sums = sums - (128.0 - LOWER_HALF_RANGE) * xp.sum(codes, axis=-1)[..., None, :]
        values = xp.sum(scales * query_scales[..., None, :] * sums, axis=-1)

        norms = query_scales * xp.sum(xp.abs(codes), axis=-1)  # d_g times the L1 norm of group g
        bound = bound_factor(groups) * xp.sum(xp.abs(scales) * norms[..., None, :], axis=-1)
        bound = bound + (groups + groups % 2) * UNDERFLOW_PER_GROUP

        known = (xp.sum(norms, axis=-1) < LARGEST_QUERY)[..., None]
        values = xp.where(known, values, xp.zeros_like(values))
        return Scores(values, xp.where(known, bound, xp.full_like(bound, float("inf"))))

    def layout(self, units: int, width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        return {
            "upper": ("uint8", (units, width // 2)),
            "lower": ("uint8", (units, width // 2)),
            "scales": ("float16", (units, width // GROUP)),
        }

    def bytes_per_query(self, units: int, width: int) -> int:
        return units * (width // 2 + 2 * (width // GROUP))


def _quantize_rows(rows: Array) -> tuple[Array, Array]:
    xp = array_namespace(rows)
    groups = xp.reshape(rows, (rows.shape[0], -1, GROUP))
    largest = xp.clip(xp.max(xp.abs(groups), axis=-1) / 127.0, max=65504.0)  # the largest 16-bit float
    scales = xp.astype(largest, xp.float16)
    wide = xp.astype(scales, xp.float32)[..., None]
    codes = xp.round(groups / xp.where(wide == 0, xp.ones_like(wide), wide))
    codes = xp.where(wide == 0, xp.zeros_like(codes), xp.clip(codes, min=-128.0, max=127.0))
    return xp.astype(xp.reshape(codes + 128.0, rows.shape), xp.uint8), scales


def _pack_nibbles(values: Array) -> Array:
    """Pack 4-bit values [units, width], inputs i and i + 16 of a group into one byte [units, width / 2]."""
    xp = array_namespace(values)
    units, width = values.shape
    halves = xp.reshape(values, (units, -1, 2, GROUP // 2))
    return xp.reshape(halves[:, :, 0, :] | (halves[:, :, 1, :] << 4), (units, width // 2))


def _unpack_nibbles(packed: Array, like: Array) -> Array:
    """Inverse of `_pack_nibbles`: [units, width / 2] -> [units, groups, 32], in the dtype of `like`."""
    xp = array_namespace(packed)
    halves = xp.reshape(packed, (packed.shape[0], -1, GROUP // 2))
    return xp.astype(xp.concat([halves & 15, halves >> 4], axis=-1), like.dtype)
