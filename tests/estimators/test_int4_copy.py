"""A copy in 4 bits: a scale and a minimum for 32 inputs, and the errors that this leaves."""

import numpy as np
import pytest

from shortlist.checkpoints.packing import pack_floats, unpacked
from shortlist.estimators import Int4Copy
from shortlist.estimators.int4_copy import residual

UNITS, WIDTH = 50, 72  # the last group of a row is not whole


@pytest.fixture(scope="module")
def table():
    return np.random.default_rng(0).normal(size=(UNITS, WIDTH)).astype(np.float32)


def test_a_weight_is_within_half_a_step_of_its_groups_range(table):
    copy = Int4Copy().fit(table, table[:1])["copy"]
    for start in range(0, WIDTH, 32):
        part, rounded = table[:, start : start + 32], copy[:, start : start + 32]
        steps = (part.max(1) - part.min(1)) / 15
        assert np.all(np.abs(rounded - part) <= (0.5 * steps + 0.01)[:, None])
    assert np.abs(copy - table).max() > 0.05, "it is not the table itself"


def test_the_copy_is_the_one_that_the_native_runtime_reads(table):
    np.testing.assert_array_equal(
        Int4Copy().fit(table, table[:1])["copy"], unpacked(pack_floats(table, "q4"))
    )


def test_one_deviation_is_the_length_of_the_error_over_the_root_of_the_width():
    rows = np.zeros((2, 4), np.float32)
    copy = np.array([[3, 0, 4, 0], [0, 0, 0, 0]], np.float32)
    np.testing.assert_array_equal(residual(rows, copy), np.float32([2.5, 0]))
    state = {"copy": copy, "residual": residual(rows, copy)}
    scores = Int4Copy().score(state, np.float32([[0, 0, 2, 0], [1, 1, 1, 1]]))
    np.testing.assert_array_equal(scores.values, np.float32([[8, 0], [7, 0]]))
    np.testing.assert_array_equal(scores.reach(), np.float32([[5, 0], [5, 0]]))


def test_bytes_are_those_of_the_packed_rows_and_their_residuals(table):
    packed = pack_floats(table, "q4")
    assert Int4Copy().bytes_per_query(UNITS, WIDTH) == UNITS * (3 * 20 + 4)
    assert Int4Copy().bytes_per_query(UNITS, 64) == pack_floats(table[:, :64], "q4").nbytes + 4 * UNITS
    assert packed.rows == UNITS
