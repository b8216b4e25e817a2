"""Codes come back from their planes, which take as many bits as the codes have."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shortlist.estimators.bit_packing import pack_bits, packed_shape, unpack_bits


@given(st.integers(1, 8), st.integers(1, 5), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_codes_come_back(bits, rows, width, seed):
    codes = np.random.default_rng(seed).integers(0, 2**bits, (rows, width), dtype=np.uint8)
    packed = pack_bits(codes, bits)
    assert packed.dtype == np.uint8
    assert packed.shape == packed_shape(rows, width, bits)
    assert packed.nbytes == rows * bits * -(-width // 8)
    np.testing.assert_array_equal(unpack_bits(packed, width), codes)


def test_the_first_code_is_in_the_lowest_bit():
    packed = pack_bits(np.array([[1, 0, 3]], np.uint8), 2)
    assert packed.tolist() == [[[0b101], [0b100]]]
