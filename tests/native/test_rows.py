"""Packing: what is refused, and quantization of float matrices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shortlist import _native


def pack(weights: np.ndarray, target: str) -> np.ndarray:
    data = np.ascontiguousarray(weights, np.float32).view(np.uint8).reshape(-1)
    rows = _native.Rows.pack(data, "F32", *weights.shape, target)
    return rows.unpack(np.arange(len(weights), dtype=np.int32))


@settings(max_examples=60)
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(1, 130)),
        elements=st.floats(-8, 8, width=32, allow_subnormal=False),
    ),
    st.sampled_from([("q8", 127), ("q4", 15)]),
)
def test_quantizing_is_within_one_step_of_the_source(weights, target):
    name, levels = target
    got = pack(weights, name)
    for start in range(0, weights.shape[1], 32):
        group = weights[:, start : start + 32]
        if name == "q8":
            step = np.abs(group).max(1) / levels
        else:  # padding joins the last group as zeros
            padded = np.pad(group, ((0, 0), (0, 32 - group.shape[1])))
            step = (padded.max(1) - padded.min(1)) / levels
        # Half a step of rounding, and float16's own rounding of the scale and the minimum, which is absolute
        # (2^-25) where they are tiny.
        slack = 0.51 * step + 2.0**-10 * np.abs(group).max(1) + (levels + 1) * 2.0**-25
        assert (np.abs(got[:, start : start + 32] - group) <= slack[:, None]).all()


@settings(max_examples=40)
@given(st.integers(1, 70), st.integers(0, 2**32 - 1), st.booleans())
def test_int8_codes_come_back(cols, seed, tiled):
    rng = np.random.default_rng(seed)
    codes = rng.integers(-128, 128, (3, cols)).astype(np.int8)
    scales = rng.random((3, -(-cols // 32))).astype(np.float16)
    rows = _native.Rows.pack_int8(codes, scales.view(np.uint16), tiled)
    expected = codes * np.repeat(scales.astype(np.float32), 32, axis=1)[:, :cols]
    assert np.array_equal(rows.unpack(np.arange(3, dtype=np.int32)), expected)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((np.zeros(34, np.uint8), "Q9_9", 1, 32), "unknown tensor type 'Q9_9'"),
        ((np.zeros(33, np.uint8), "Q8_0", 1, 32), "wrong size"),
        ((np.zeros(34, np.uint8), "Q8_0", 1, 33), "not whole blocks"),
        ((np.zeros(34, np.uint8), "Q8_0", 0, 32), "out of range"),
        ((np.zeros(34, np.uint8), "Q8_0", 1 << 40, 1 << 20), "out of range"),
        ((np.zeros(128, np.uint8), "F32", 1, 32, "q3"), "unknown weight format 'q3'"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        _native.Rows.pack(*arguments)


def test_indices_and_sizes_are_checked():
    rows = _native.Rows.pack(np.zeros(8 * 34, np.uint8), "Q8_0", 8, 32)
    x = np.zeros(32, np.float32)
    for bad in (-1, 8):
        with pytest.raises(IndexError, match=f"row {bad} of 8"):
            rows.matvec_rows(x, np.array([bad], np.int32))
    with pytest.raises(ValueError, match="x has 31 values where 32"):
        rows.matvec(x[:31].copy())


def test_a_tiled_matrix_is_not_read_by_row():
    tiled = _native.Rows.pack(np.zeros(8 * 34, np.uint8), "Q8_0", 8, 32, tiled=True)
    with pytest.raises(ValueError, match="pack it without tiles"):
        tiled.matvec_rows(np.zeros(32, np.float32), np.zeros(1, np.int32))
    with pytest.raises(ValueError, match="pack it without tiles"):
        _native.Head(tiled)


def test_packing_in_pieces_is_packing_at_once():
    data = np.random.default_rng(0).integers(0, 256, 10 * 34, dtype=np.uint8)
    every = np.arange(10, dtype=np.int32)
    expected = _native.Rows.pack(data, "Q8_0", 10, 32).unpack(every)
    for tiled in (False, True):
        packer = _native.Packer("Q8_0", 10, 32, tiled=tiled)
        for start, end in [(0, 3), (3, 4), (4, 4), (4, 10)]:
            packer.add(data[start * 34 : end * 34])
        assert np.array_equal(packer.finish().unpack(every), expected, equal_nan=True)


def test_a_packer_takes_whole_rows_and_all_of_them():
    packer = _native.Packer("Q8_0", 2, 32)
    for bad in (33, 3 * 34):
        with pytest.raises(ValueError, match="wrong size"):
            packer.add(np.zeros(bad, np.uint8))
    packer.add(np.zeros(34, np.uint8))
    with pytest.raises(ValueError, match="wrong size"):
        packer.finish()


def test_many_matrices_share_an_arena_and_outlive_it():
    arena = _native.Arena()
    data = np.arange(64, dtype=np.float32)
    matrices = [_native.Rows.pack((data + i).view(np.uint8), "F32", 1, 64, "", arena) for i in range(2000)]
    del arena
    zero = np.zeros(1, np.int32)
    assert all(np.array_equal(m.unpack(zero)[0], data + i) for i, m in enumerate(matrices))
