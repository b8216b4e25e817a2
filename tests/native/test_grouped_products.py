"""Grouped products against a loop over groups in NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shortlist import _native

LOADS = st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 8, 9, 16, 17, 64, 513]), min_size=1, max_size=5)
SIZES = st.sampled_from([1, 5, 6, 7, 16, 31, 48, 49, 130, 300])


def segments(load):
    ends = np.cumsum(load)
    return [slice(end - count, end) for end, count in zip(ends, load, strict=True)]


def close(actual, expected):
    scale = np.abs(expected).max(initial=1.0)
    assert np.abs(actual - expected).max(initial=0.0) <= 1e-5 * scale


def drawn(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(LOADS, SIZES, SIZES, st.booleans(), st.integers(0, 999), st.integers(1, 3))
def test_products(load, m, n, transposed, seed, threads):
    rng = np.random.default_rng(seed)
    matrices, x = drawn(rng, len(load), m, n), drawn(rng, 11, n)
    rows, out_rows = rng.integers(0, 11, (2, sum(load)))
    weights = np.ascontiguousarray(matrices.transpose(0, 2, 1)) if transposed else matrices
    expected = np.concatenate([x[rows[s]] @ w.T for w, s in zip(matrices, segments(load), strict=True)])
    out = np.full((sum(load), m), np.nan, np.float32)
    how = {"rows": rows, "transposed": transposed}
    _native.set_threads(threads)
    _native.grouped_product(weights, x, np.array(load), out, **how)
    close(out, expected)

    scale = rng.random(sum(load)).astype(np.float32)
    sums = drawn(rng, 11, m)
    added = sums.astype(np.float64)
    np.add.at(added, out_rows, scale[:, None] * expected)
    _native.grouped_product(weights, x, np.array(load), sums, out_rows=out_rows, scale=scale, **how)
    close(sums, added)


@settings(max_examples=60, deadline=None)
@given(LOADS, SIZES, SIZES, st.integers(0, 999), st.integers(1, 3))
def test_outer_products(load, m, n, seed, threads):
    rng = np.random.default_rng(seed)
    left, right, out = drawn(rng, 11, m), drawn(rng, 11, n), drawn(rng, len(load), m, n)
    left_rows, right_rows = rng.integers(0, 11, (2, sum(load)))
    expected = [left[left_rows[s]].T @ right[right_rows[s]] for s in segments(load)]
    _native.set_threads(threads)
    _native.grouped_outer(left, right, np.array(load), out, left_rows=left_rows, right_rows=right_rows)
    close(out, np.stack(expected))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"load": np.array([2, 2])}, "load does not add up"),
        ({"load": np.array([4, -1])}, "load does not add up"),
        ({"load": np.array([3])}, "load has 1 values where 2"),
        ({"x": np.zeros((3, 6), np.float32)}, "x has 6 values where 5"),
        ({"out": np.zeros((2, 4), np.float32)}, "out has 2 values where 3"),
        ({"rows": np.array([0, 1, 3])}, "rows names row 3 of 3"),
        ({"out_rows": np.array([0, -1, 2])}, "out_rows names row -1 of 3"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    given_ = {
        "weights": np.zeros((2, 4, 5), np.float32),
        "x": np.zeros((3, 5), np.float32),
        "load": np.array([1, 2]),
        "out": np.zeros((3, 4), np.float32),
    }
    with pytest.raises((ValueError, IndexError), match=message):
        _native.grouped_product(**given_ | change)
