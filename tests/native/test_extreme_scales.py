"""Scales at the edges of what a type can say, on every instruction set of this machine."""

import os
import subprocess
import sys

import gguf
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shortlist import _native
from shortlist.checkpoints.base import TYPES

EXACT = ("Q2_K", "Q3_K", "IQ4_NL", "IQ4_XS")
"""Types that keep the scales of the file, so that values are those of the gguf library to the last bit."""
FACTORS = {"Q2_K": (80, 82), "Q3_K": (108,), "IQ4_NL": (0,), "IQ4_XS": (0,)}
SCRIPT = """
import sys
import numpy as np
from shortlist import _native
data, x = np.load(sys.argv[1]).values()
every = np.arange(256, dtype=np.int32)
rows = [_native.Rows.pack(data.reshape(-1), "MXFP4", 256, x.shape[1], tiled=tiled) for tiled in (False, True)]
np.savez(sys.argv[2], isa=_native.isa(), rows=rows[0].matmul(x), tiles=rows[1].matmul(x),
         listed=rows[0].matvec_rows(x[0], every))
"""


def unpacked(name: str, data: np.ndarray, columns: int, tiled: bool) -> np.ndarray:
    rows = _native.Rows.pack(data.reshape(-1), name, len(data), columns, tiled=tiled)
    return rows.unpack(np.arange(len(data), dtype=np.int32))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(EXACT),
    st.floats(-65504, 65504, width=16),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
@example("Q3_K", 65504.0, 0, True)
@example("IQ4_XS", -65504.0, 1, False)
@example("Q2_K", 2.0**-24, 2, True)
def test_values_are_those_of_the_gguf_library(name, factor, seed, tiled):
    record, rows = TYPES[name], 9
    data = np.random.default_rng(seed).integers(0, 256, (rows, 2, record.bytes), np.uint8)
    for at in FACTORS[name]:
        data[:, :, at : at + 2] = np.array([factor], np.float16).view(np.uint8)
    expected = gguf.quants.dequantize(data.reshape(rows, -1), gguf.GGMLQuantizationType[name])
    assert np.array_equal(unpacked(name, data, 2 * record.weights, tiled), expected)


def every_power() -> np.ndarray:
    """MXFP4 blocks [256, 3, 17] whose row r has the scale 2^(r - 128), and random codes."""
    data = np.random.default_rng(0).integers(0, 256, (256, 3, 17), np.uint8)
    data[:, :, 0] = np.arange(256)[:, None]
    return data


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("tiled", [False, True])
def test_every_power_of_two_is_kept(tiled):
    data = every_power()
    expected = gguf.quants.dequantize(data.reshape(256, -1), gguf.GGMLQuantizationType.MXFP4)
    assert np.array_equal(unpacked("MXFP4", data, 96, tiled), expected)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
def test_products_with_every_power_of_two(isa, tmp_path):
    data = every_power()
    # Whole numbers up to 127 in every group, which rounding to 8 bits keeps.
    x = np.random.default_rng(1).integers(-127, 128, (5, 96)).astype(np.float32)
    x[:, ::32] = 127
    np.savez(tmp_path / "in.npz", data=data, x=x)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path / "in.npz", tmp_path / "out.npz"],
        env={**os.environ, "SHORTLIST_ISA": isa},
        capture_output=True,
        text=True,
    )
    if "which this processor does not have" in done.stderr:
        pytest.skip(f"this processor has no {isa}")
    assert done.returncode == 0, done.stderr
    out = np.load(tmp_path / "out.npz")
    assert str(out["isa"]) == isa
    weights = gguf.quants.dequantize(data.reshape(256, -1), gguf.GGMLQuantizationType.MXFP4).astype(
        np.float64
    )
    expected, sizes = x @ weights.T, np.abs(x) @ np.abs(weights).T
    held = sizes.max(axis=0) < 3e38  # what a float can say
    assert held[:235].all()
    for name in ("rows", "tiles"):
        assert (np.abs(out[name] - expected) <= 1e-5 * sizes)[:, held].all(), name
    assert np.array_equal(out["listed"], out["rows"][0], equal_nan=True)
