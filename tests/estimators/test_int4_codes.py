"""4-bit coordinates come back within half a step, whatever their size."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shortlist.estimators.int4_codes import from_int4, int4_bytes, int4_layout, to_int4

ROWS = arrays(np.float32, (3, 64), elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False))


@settings(max_examples=100)
@given(ROWS)
def test_a_code_is_within_a_step_of_its_coordinate(rows):
    codes, scales = to_int4(rows)
    error = np.abs(from_int4(codes, scales) - rows).reshape(3, 2, 32)
    step = np.abs(scales.astype(np.float32))[:, :, None]
    # Half a step, but a whole one at the end that has 7 codes instead of 8; float16 rounds the scale.
    assert (error <= 1.01 * step + 8 * 2.0**-24 + 8 * step * 2.0**-10).all()


@given(ROWS)
def test_sizes_are_those_promised(rows):
    codes, scales = to_int4(rows)
    layout = int4_layout(3, 64)
    assert [(str(a.dtype), a.shape) for a in (codes, scales)] == list(layout)
    assert codes.nbytes + scales.nbytes == int4_bytes(3, 64)


def test_multiples_of_the_scale_come_back_exactly():
    rows = np.tile(np.arange(-8, 8, dtype=np.float32), (1, 4)) * 0.5
    assert np.array_equal(from_int4(*to_int4(rows)), rows)


def test_zeros_stay_zeros():
    assert not from_int4(*to_int4(np.zeros((2, 32), np.float32))).any()
