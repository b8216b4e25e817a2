"""Ternary rows, two bits a weight, on every instruction set of this machine."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortlist import _native

ROWS, COLS, TOKENS = 37, 160, 13

SCRIPT = """
import sys
import numpy as np
from shortlist import _native
data, x = np.load(sys.argv[1]).values()
rows = _native.Rows.pack(data, "TERNARY", *map(int, sys.argv[3:5]), "", None, True)
one_by_one = np.stack([rows.matvec(each) for each in x])
np.savez(sys.argv[2], isa=_native.isa(), products=rows.matmul(x), one_by_one=one_by_one)
"""


def blocks(codes: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Codes [rows, cols] in {-1, 0, 1} and scales float16 [rows]: a scale and 8 bytes for each 32 columns."""
    rows, cols = codes.shape
    fours = (codes + 1).astype(np.uint8).reshape(rows, cols // 32, 8, 4)
    data = np.empty((rows, cols // 32, 10), np.uint8)
    data[..., :2] = scale.view(np.uint8).reshape(rows, 1, 2)
    data[..., 2:] = np.bitwise_or.reduce(fours << np.arange(0, 8, 2, dtype=np.uint8), axis=-1)
    return data.reshape(-1)


def random(seed: int, rows: int, cols: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(-1, 2, (rows, cols)), rng.uniform(0.01, 2, rows).astype(np.float16)


@given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_packing_keeps_every_weight(rows, groups, seed):
    codes, scale = random(seed, rows, 32 * groups)
    packed = _native.Rows.pack(blocks(codes, scale), "TERNARY", rows, 32 * groups, "", None, True)
    assert packed.format == "q2"
    values = packed.unpack(np.arange(rows, dtype=np.int32))
    assert np.array_equal(values, codes * scale.astype(np.float32)[:, None])


@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
def test_products(isa, tmp_path):
    codes, scale = random(1, ROWS, COLS)
    # Whole numbers up to 127 in every group, which rounding to 8 bits keeps.
    x = np.random.default_rng(2).integers(-127, 128, (TOKENS, COLS)).astype(np.float32)
    x[:, ::32] = 127
    np.savez(tmp_path / "in.npz", data=blocks(codes, scale), x=x)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path / "in.npz", tmp_path / "out.npz", str(ROWS), str(COLS)],
        env={**os.environ, "SHORTLIST_ISA": isa},
        capture_output=True,
        text=True,
    )
    if "which this processor does not have" in done.stderr:
        pytest.skip(f"this processor has no {isa}")
    assert done.returncode == 0, done.stderr
    out = np.load(tmp_path / "out.npz")
    assert str(out["isa"]) == isa
    expected = x @ (codes * scale.astype(np.float32)[:, None]).T
    assert np.abs(out["products"] - expected).max() < 1e-5 * np.abs(expected).max()
    assert np.array_equal(out["one_by_one"], out["products"])


def test_rows_that_are_read_one_by_one_hold_the_same_values():
    codes, scale = random(0, 8, 160)
    packed = _native.Rows.pack(blocks(codes, scale), "TERNARY", 8, 160)
    values = packed.unpack(np.arange(8, dtype=np.int32))
    assert np.array_equal(values, codes * scale.astype(np.float32)[:, None])
    x = np.ones(160, np.float32)
    assert np.allclose(
        packed.matvec_rows(x, np.array([7, 2], np.int32)), values[[7, 2]].sum(axis=1), rtol=1e-5
    )
