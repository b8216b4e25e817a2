"""Every product of packed rows, on every instruction set of this machine, against dequantized NumPy."""

import os
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
from probe import BY_CHANNEL, LOADS, THRESHOLD, TYPES, columns

PROBE = Path(__file__).with_name("probe.py")
ROUNDING = 4e-6
"""Of float32 sums; the worst case is a query of ones and 8-bit codes, whose offset is the largest part."""
MATRICES = [(kind, cols) for kind in TYPES for cols in columns(kind)]


@pytest.fixture(scope="module", params=["portable", "avx2", "avx512"])
def results(request, tmp_path_factory):
    """What probe.py computed with one instruction set."""
    output = tmp_path_factory.mktemp("probe") / "results.npz"
    environment = {**os.environ, "SHORTLIST_ISA": request.param}
    done = subprocess.run([sys.executable, PROBE, output], env=environment, capture_output=True, text=True)
    if "which this processor does not have" in done.stderr:
        pytest.skip(f"this processor has no {request.param}")
    assert done.returncode == 0, done.stderr
    loaded = np.load(output)
    assert str(loaded["isa"]) == request.param
    return loaded


def dequantized(kind: str, data: np.ndarray) -> np.ndarray:
    return gguf.quants.dequantize(data, gguf.GGMLQuantizationType[kind])


def assert_close(actual: np.ndarray, expected: np.ndarray, relative: float, what: str) -> None:
    """Largest error, in units of the largest expected value of the same matrix."""
    scale = np.abs(expected).max() or 1.0
    error = np.abs(actual.astype(np.float64) - expected) / scale
    worst = np.unravel_index(error.argmax(), error.shape)
    assert error.max() <= relative, (
        f"{what}: largest error {error.max():.2e}, RMS {np.sqrt((error**2).mean()):.2e} of the maximum, "
        f"at {worst}: {actual[worst]} for {expected[worst]}"
    )


@pytest.mark.parametrize(("kind", "cols"), MATRICES)
def test_packing_keeps_the_sources_values(results, kind, cols):
    expected = dequantized(kind, results[f"{kind}/{cols}/data"])
    # Q4_K, Q5_K and Q6_K multiply two small numbers into each scale; ours is that product, in float16.
    tolerance = 2.0**-11 if kind in ("Q4_K", "Q5_K", "Q6_K") else 0.0
    assert_close(results[f"{kind}/{cols}/unpacked"], expected, tolerance, "unpacked")


@pytest.mark.parametrize(("kind", "cols"), MATRICES)
def test_products_match_numpy(results, kind, cols):
    get = lambda name: results[f"{kind}/{cols}/{name}"]  # noqa: E731
    weights = get("unpacked").astype(np.float64)
    x = get("x").astype(np.float64)
    if kind not in ("F32", "F16", "BF16"):
        x = int8_groups(get("x"))
    assert_close(get("matvec"), x @ weights.T, ROUNDING, "matvec")
    assert_close(get("matmul"), x @ weights.T, ROUNDING, "matmul")
    assert_close(get("matmul"), get("matvec"), ROUNDING, "matmul against matvec")
    assert_close(get("axpy"), get("coefficients").astype(np.float64) @ weights[get("some")], ROUNDING, "axpy")


@pytest.mark.parametrize(("kind", "cols"), MATRICES)
def test_tiles_hold_the_same_rows(results, kind, cols):
    get = lambda name: results[f"{kind}/{cols}/{name}"]  # noqa: E731
    assert np.array_equal(get("tiled/unpacked"), get("unpacked"))
    assert_close(get("tiled/matvec"), get("matvec").astype(np.float64), ROUNDING, "tiled matvec")
    assert_close(get("tiled/matmul"), get("matmul").astype(np.float64), ROUNDING, "tiled matmul")


@pytest.mark.parametrize(("kind", "cols"), [each for each in MATRICES if each[0] in BY_CHANNEL])
def test_products_with_listed_channels_match_numpy(results, kind, cols):
    get = lambda name: results[f"{kind}/{cols}/{name}"]  # noqa: E731
    assert_close(get("channels/all"), get("matvec").astype(np.float64), ROUNDING, "all channels")
    x = get("x").astype(np.float64) if kind in ("F32", "F16", "BF16") else int8_groups(get("x"))
    x[np.abs(get("x")) * get("norms") < np.float32(THRESHOLD)] = 0
    assert_close(get("channels/some"), x @ get("unpacked").astype(np.float64).T, ROUNDING, "some channels")


@pytest.mark.parametrize(("kind", "cols"), MATRICES)
def test_a_row_has_one_value_whichever_rows_are_read(results, kind, cols):
    get = lambda name: results[f"{kind}/{cols}/{name}"]  # noqa: E731
    assert np.array_equal(get("matvec")[:, get("some")], get("matvec_rows"))


def test_grouped_products_match_numpy(results):
    rows, weights, x, dy = (results[f"grouped/{name}"] for name in ("rows", "weights", "x", "dy"))
    group = np.repeat(np.arange(len(LOADS)), LOADS)
    assert_close(results["grouped/y"], np.einsum("pmn,pn->pm", weights[group], x[rows]), 1e-5, "y")
    assert_close(results["grouped/dx"], np.einsum("pmn,pm->pn", weights[group], dy[rows]), 1e-5, "dx")
    gradient = np.zeros(weights.shape)
    np.add.at(gradient, group, dy[rows][:, :, None].astype(np.float64) * x[rows][:, None])
    assert_close(results["grouped/gradient"], gradient, 1e-5, "gradient")


def int8_groups(x: np.ndarray) -> np.ndarray:
    """What quantized rows are really multiplied with: int8, d = max|x| / 127 over 32 columns."""
    padded = np.zeros((len(x), -(-x.shape[1] // 32) * 32), np.float32)
    padded[:, : x.shape[1]] = x
    groups = padded.reshape(len(x), -1, 32)
    largest = np.abs(groups).max(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        inverse = np.where(largest > 0, np.float32(127) / largest, np.float32(0))
    codes = np.rint(groups * inverse)
    return (codes * (largest / np.float32(127)).astype(np.float64)).reshape(padded.shape)[:, : x.shape[1]]
