"""The three native steps of a vector search against their NumPy twins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shortlist import _native
from shortlist.index.row_formats import ROW_FORMATS

ODD_VALUES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, float("inf"), float("-inf"), float("nan")])


def best_by_sorting(values: np.ndarray, count: int) -> np.ndarray:
    """Largest first, ties to the lowest row; NaN counts as -infinity."""
    return np.argsort(-np.where(np.isnan(values), -np.inf, values), kind="stable")[:count]


@settings(max_examples=100, deadline=None)
@given(arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 60)), elements=ODD_VALUES), st.data())
def test_a_shortlist_is_the_largest_values(values, data):
    count = data.draw(st.integers(1, values.shape[1]))
    expected = [np.sort(best_by_sorting(row, count)) for row in values]
    np.testing.assert_array_equal(_native.shortlist_each(values, count), expected)


@pytest.mark.parametrize("count", [1, 100, 5_000, 29_999, 30_000])
@pytest.mark.parametrize("order", ["random", "ascending", "few values"])
def test_a_long_shortlist_is_the_largest_values(count, order):
    values = np.random.default_rng(0).standard_normal((3, 30_000), dtype=np.float32)
    if order == "ascending":
        values.sort(axis=1)
    if order == "few values":
        values = np.round(values)
    expected = [np.sort(best_by_sorting(row, count)) for row in values]
    np.testing.assert_array_equal(_native.shortlist_each(values, count), expected)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.integers(1, 70),
    st.sampled_from(sorted(ROW_FORMATS)),
    st.data(),
)
def test_the_best_of_shortlists_over_several_parts(sizes, width, rows, data):
    random = np.random.default_rng(data.draw(st.integers(0, 1000)))
    parts = [ROW_FORMATS[rows].pack(random.standard_normal((n, width), dtype=np.float32)) for n in sizes]
    queries = random.standard_normal((3, width), dtype=np.float32)
    count = data.draw(st.integers(1, sum(sizes)))
    best = data.draw(st.integers(1, count))
    lists = np.stack([np.sort(random.permutation(sum(sizes))[:count]) for _ in queries]).astype(np.int32)

    ids, scores = _native.compute_each(parts, queries, lists, best)
    for query, chosen, got_ids, got in zip(queries, lists, ids, scores, strict=True):
        values = np.concatenate([part.matvec(query) for part in parts])[chosen]
        order = best_by_sorting(values, best)
        np.testing.assert_array_equal(got_ids, chosen[order])
        np.testing.assert_array_equal(got, values[order])  # the same bits: the kernel is that of one row


@pytest.mark.parametrize("units", [1, 7, 5000])
def test_estimates_are_the_products_of_tiled_rows(units):
    random = np.random.default_rng(1)
    codes = random.integers(-127, 128, (units, 40)).astype(np.int8)
    scales = random.uniform(0.01, 1, (units, 2)).astype(np.float16).view(np.uint16)
    rows = _native.Rows.pack_int8(codes, scales, tiled=True)
    queries = random.standard_normal((3, 40), dtype=np.float32)
    expected = [rows.matvec(query) for query in queries]
    np.testing.assert_array_equal(_native.estimate_each(rows, queries), expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 130), st.integers(0, 1000))
def test_int8_rows_unpack_to_what_they_were_packed_from(count, width, seed):
    random = np.random.default_rng(seed)
    codes = random.integers(-127, 128, (count, width)).astype(np.int8)
    scales = random.uniform(0, 2, (count, -(-width // 32))).astype(np.float16).view(np.uint16)
    again = _native.unpack_int8(_native.Rows.pack_int8(codes, scales))
    np.testing.assert_array_equal(again[0], codes)
    np.testing.assert_array_equal(again[1], scales)


def test_wrong_shapes_are_refused():
    rows = ROW_FORMATS["float32"].pack(np.ones((3, 4), np.float32))
    query = np.ones((1, 4), np.float32)
    with pytest.raises(ValueError, match="1 to all"):
        _native.shortlist_each(query, 5)
    with pytest.raises(ValueError, match="width"):
        _native.compute_each([rows], query[:, :3].copy(), np.zeros((1, 1), np.int32), 1)
    for wrong in ([0, 3], [-1, 0], [1, 1], [2, 0]):
        with pytest.raises(ValueError, match="ascending"):
            _native.compute_each([rows], query, np.array([wrong], np.int32), 1)
    with pytest.raises(ValueError, match="8-bit"):
        _native.unpack_int8(rows)
