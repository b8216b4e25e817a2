"""A copy of the rows in 1 to 4 bits, with scales per row, per group of inputs, or per input channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, Literal, get_args

import numpy as np
from array_api_compat import array_namespace, device

from shortlist._native import GROUP  # inputs of a row, or rows of an input channel, that share one scale
from shortlist.errors import UsageError
from shortlist.estimators.base import (
    Array,
    Estimator,
    Knowledge,
    PackedTable,
    Progress,
    Scores,
    State,
    check_queries,
    row_slices,
    some_rows,
    table_chunks,
    table_rows,
    table_shape,
)
from shortlist.estimators.bit_packing import pack_bits, packed_shape, unpack_bits
from shortlist.estimators.residuals import length, residual_root, residuals

Scales = Literal["row", "group", "input"]
Code = Literal["linear", "shift"]
STEPS = 4  # of the search for scales, each a rounding and a least-squares fit
SAMPLE_ROWS = 4096  # rows that the choice of scales is made on


@dataclass(frozen=True)
class Quantized(Estimator):
    """Scores rows by a copy of them in few bits; gives the spread of its error.

    The quantized estimator of HiRE (https://arxiv.org/abs/2402.09360). State: `planes` uint8
    [units, bits, width / 8], the codes; `scales` float16, one for each run of weights; `residual` float32
    [units]: spread_i = residual_i * |query|.

    Parameters
    ----------
    bits : int
        Of a code, 1 to 4.
    scales : {"row", "group", "input"}
        What shares a scale: a row; 32 inputs of a row; or 32 neighbouring rows of one input channel, so that
        channels with outliers have scales of their own (AdaDim, https://arxiv.org/abs/2309.15531). The last
        two take the same bytes; `choose_scales` takes what errs less.
    code : {"linear", "shift"}
        Evenly spaced values, or powers of two with a sign (DenseShift, https://arxiv.org/abs/2208.09708),
        which need shifts in place of products. Neither has a zero, so that every code says something.
    """

    name: ClassVar[str] = "quantized"
    gives: ClassVar[Knowledge | None] = "confidence"
    bits: int = 4
    scales: Scales = "group"
    code: Code = "linear"

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 4:
            raise UsageError(f"quantized keeps 1 to 4 bits, not {self.bits}")
        if self.scales not in get_args(Scales):
            raise UsageError(
                f"scales of quantized are one of {', '.join(get_args(Scales))}, not {self.scales}"
            )
        if self.code not in get_args(Code):
            raise UsageError(f"code of quantized is linear or shift, not {self.code}")

    def fit(self, table: Array | PackedTable, queries: Array, progress: Progress | None = None) -> State:
        xp = array_namespace(queries)
        units, width = table_shape(table)
        check_queries(queries, width)
        root = residual_root(queries)
        weights = xp.mean(queries * queries, axis=0)  # how much an error at each input costs
        parts = []
        for rows, chunk in table_chunks(table, like=queries, multiple=GROUP):
            codes, scales = self._quantize(chunk, weights)
            errors = chunk - self._decode(codes, scales)
            parts.append((pack_bits(codes, self.bits), scales, residuals(errors, root)))
            if progress:
                progress(rows.stop / units)
        planes, scales, residual = (xp.concat(part, axis=0) for part in zip(*parts, strict=True))
        return {"planes": planes, "scales": scales, "residual": residual}

    def score(self, state: State, query: Array) -> Scores:
        xp = array_namespace(query)
        units, width = state["planes"].shape[0], query.shape[-1]
        values = [query @ self.decode(state, rows, width).T for rows in row_slices(units, width, GROUP)]
        return Scores(xp.concat(values, axis=-1), state["residual"], length(query))

    def decode(self, state: State, rows: slice, width: int) -> Array:
        """Rows as float32 [count, width]; the slice starts at a multiple of 32."""
        scale_rows = slice(rows.start // GROUP, -(-rows.stop // GROUP)) if self.scales == "input" else rows
        return self._decode(unpack_bits(state["planes"][rows, :, :], width), state["scales"][scale_rows, :])

    def layout(self, units: int, width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        return {
            "planes": ("uint8", packed_shape(units, width, self.bits)),
            "scales": ("float16", self._scales_shape(units, width)),
            "residual": ("float32", (units,)),
        }

    def bytes_per_query(self, units: int, width: int) -> int:
        codes = prod(packed_shape(units, width, self.bits))
        return codes + 2 * prod(self._scales_shape(units, width)) + 4 * units

    def _scales_shape(self, units: int, width: int) -> tuple[int, int]:
        return {
            "row": (units, 1),
            "group": (units, -(-width // GROUP)),
            "input": (-(-units // GROUP), width),
        }[self.scales]

    def _quantize(self, chunk: Array, weights: Array) -> tuple[Array, Array]:
        """Codes uint8 [rows, width] and float16 scales of least squared error, an input's error weighed."""
        xp = array_namespace(chunk)
        weights = xp.broadcast_to(weights, chunk.shape)
        scale = self._over_runs(xp.abs(chunk), xp.max)
        for _ in range(STEPS):
            levels = self._levels(chunk)[self._round(chunk, self._spread_out(scale, chunk.shape))]
            fitted = self._over_runs(weights * chunk * levels, xp.sum)
            size = self._over_runs(weights * levels * levels, xp.sum)
            scale = xp.where(size > 0, fitted / xp.where(size > 0, size, xp.ones_like(size)), scale)
        scale = xp.astype(xp.clip(scale, max=65504.0), xp.float16)  # the largest 16-bit float
        wide = self._spread_out(xp.astype(scale, xp.float32), chunk.shape)
        return xp.astype(self._round(chunk, wide), xp.uint8), scale

    def _decode(self, codes: Array, scales: Array) -> Array:
        xp = array_namespace(codes)
        wide = self._spread_out(xp.astype(scales, xp.float32), codes.shape)
        return self._levels(wide)[xp.astype(codes, xp.int64)] * wide

    def _levels(self, like: Array) -> Array:
        """Value of each code, in units of the scale, float32 [2^bits]."""
        xp = array_namespace(like)
        codes = np.arange(2**self.bits)
        if self.code == "linear":
            levels = (2 * codes + 1 - 2**self.bits) / (2**self.bits - 1)
        else:
            levels = (1 - 2.0 * (codes & 1)) * 0.5 ** (codes >> 1)
        return xp.asarray(levels, dtype=xp.float32, device=device(like))

    def _round(self, chunk: Array, scale: Array) -> Array:
        """Codes, int64, of the levels nearest to the weights."""
        xp = array_namespace(chunk)
        ratio = chunk / xp.where(scale == 0, xp.ones_like(scale), scale)
        last = 2**self.bits - 1
        if self.code == "linear":
            return xp.astype(xp.clip(xp.round((ratio + 1) * (0.5 * last)), min=0, max=last), xp.int64)
        # |ratio| is nearest to 2^-j between 0.75 * 2^-j and twice that.
        sizes = xp.clip(xp.abs(ratio), min=2.0**-20)
        shifts = xp.clip(xp.ceil(xp.log2(0.75 / sizes)), min=0, max=last // 2)
        return 2 * xp.astype(shifts, xp.int64) + xp.astype(ratio < 0, xp.int64)

    def _over_runs(self, values: Array, reduce: Callable[..., Array]) -> Array:
        """Reduce values [rows, width] over the weights that share a scale, to the shape of the scales."""
        xp = array_namespace(values)
        if self.scales == "row":
            return reduce(values, axis=1, keepdims=True)
        rows, width = values.shape
        axis = 1 if self.scales == "group" else 0
        missing = (rows, -width % GROUP) if axis else (-rows % GROUP, width)
        values = xp.concat([values, xp.zeros(missing, dtype=values.dtype, device=device(values))], axis=axis)
        shape = (rows, -1, GROUP) if axis else (-1, GROUP, width)
        return reduce(xp.reshape(values, shape), axis=axis + 1)

    def _spread_out(self, scales: Array, shape: tuple[int, ...]) -> Array:
        """Scales for each weight [rows, width]."""
        xp = array_namespace(scales)
        if self.scales == "row":
            return xp.broadcast_to(scales, shape)
        axis = 1 if self.scales == "group" else 0
        return xp.repeat(scales, GROUP, axis=axis)[: shape[0], : shape[1]]


def choose_scales(
    table: Array | PackedTable, queries: Array, bits: int, kinds: tuple[Scales, ...] = ("group", "input")
) -> Quantized:
    """The estimator whose scales leave the least error on the queries, by a sample of the rows.

    Parameters
    ----------
    table, queries
        As `fit` takes them.
    bits : int
    kinds : tuple of str
        Groupings to choose among; the default ones take the same bytes.
    """
    xp = array_namespace(queries)
    units, _ = table_shape(table)
    sample = table_rows(table, some_rows(units, SAMPLE_ROWS, run=GROUP), like=queries)
    options = [replace(Quantized(bits), scales=kind) for kind in kinds]
    return min(options, key=lambda option: float(xp.sum(option.fit(sample, queries)["residual"] ** 2)))
