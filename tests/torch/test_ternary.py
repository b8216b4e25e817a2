"""Ternary weights: packed and unpacked, rounded, and trained straight through."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from shortlist.torch import Experts, MoE, SoftmaxTopK
from shortlist.torch.ternary import make_ternary, pack, ternarize, unpack


@given(
    st_numpy.arrays(
        np.int8,
        st.tuples(st.integers(1, 3), st.integers(1, 5).map(lambda n: 4 * n)),
        elements=st.integers(-1, 1),
    )
)
def test_what_is_packed_comes_back(codes):
    packed = pack(codes)
    assert packed.shape == (codes.shape[0], codes.shape[1] // 4)
    np.testing.assert_array_equal(unpack(packed), codes)


def test_the_first_code_is_in_the_lowest_bits():
    assert pack(np.array([-1, 0, 1, 1], dtype=np.int8)).tolist() == [0b10_10_01_00]


def test_rows_are_rounded_to_their_mean_size():
    codes, scale = ternarize(torch.tensor([[0.0, 3.0, -3.0, 2.0], [0.0, 0.0, 0.0, 0.0]]))
    assert scale.tolist() == [2.0, 0.0]
    assert codes.tolist() == [[0.0, 1.0, -1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]


def test_experts_compute_with_rounded_weights_and_train_those_behind():
    torch.manual_seed(0)
    experts = make_ternary(Experts(2, 8, 4))
    codes, scale = ternarize(experts.parametrizations.gate_up_proj.original)
    assert torch.equal(experts.gate_up_proj, codes * scale[..., None])
    layer = MoE(SoftmaxTopK(8, 2), experts)
    layer(torch.randn(5, 8)).square().sum().backward()
    for name in ("gate_up_proj", "down_proj"):
        assert experts.parametrizations[name].original.grad.abs().sum() > 0


@pytest.mark.parametrize("rows", [1, 7])
def test_a_width_that_does_not_fill_bytes_is_a_defect(rows):
    with pytest.raises(AssertionError):
        pack(np.zeros((rows, 6), dtype=np.int8))
