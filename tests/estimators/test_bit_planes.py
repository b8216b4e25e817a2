"""The bound holds for the float32 value of every row, whatever weights, query and order of sums."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shortlist.errors import UsageError
from shortlist.estimators.bit_planes import (
    GROUP,
    BitPlanes,
    _pack_nibbles,
    _unpack_nibbles,
    bound_factor,
    quantize_query,
    row_values,
    split_planes,
)

ESTIMATOR = BitPlanes()


@st.composite
def adversarial(draw):
    """Codes, scales and a query: extreme and mixed magnitudes, ties, zero groups, worst-case lower planes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    units, groups = draw(st.integers(1, 24)), draw(st.integers(1, 9))
    shape = (units, groups * GROUP)

    query = rng.standard_normal(shape[1]).astype(np.float32)
    exponents = draw(st.lists(st.integers(-148, 120), min_size=groups, max_size=groups))
    with np.errstate(over="ignore", under="ignore"):
        query *= np.repeat(np.float32(2.0) ** np.array(exponents, dtype=np.float32), GROUP)
    if draw(st.booleans()):
        query[rng.random(shape[1]) < 0.5] = 0.0
    if draw(st.booleans()):
        query[: GROUP * rng.integers(0, groups + 1)] = 0.0

    kind = draw(st.sampled_from(["random", "extreme", "with the query", "equal rows", "one bit apart"]))
    if kind == "extreme":
        codes = rng.choice(np.array([0, 1, 15, 16, 127, 128, 129, 240, 255], dtype=np.uint8), shape)
    elif kind == "with the query":  # the lower plane adds all it can, in one direction
        towards = np.where(rng.random((units, 1)) < 0.5, query > 0, query <= 0)
        codes = (16 * rng.integers(0, 16, shape) + 15 * towards).astype(np.uint8)
    elif kind == "equal rows":
        codes = np.repeat(rng.integers(0, 256, (1, shape[1]), dtype=np.uint8), units, axis=0)
    elif kind == "one bit apart":
        codes = np.repeat(rng.integers(0, 256, (1, shape[1]), dtype=np.uint8), units, axis=0)
        codes[np.arange(units), rng.integers(0, shape[1], units)] ^= 1
    else:
        codes = rng.integers(0, 256, shape, dtype=np.uint8)

    low = draw(st.sampled_from([-24, -14, -2, 10]))
    scales = (2.0 ** rng.uniform(low, low + draw(st.integers(0, 5)), (units, groups))).astype(np.float16)
    scales[rng.random(scales.shape) < draw(st.sampled_from([0.0, 0.3]))] = 0.0
    if kind in ("equal rows", "one bit apart"):
        scales[:] = scales[:1]
    elif draw(st.booleans()):
        scales *= rng.choice(np.array([-1, 1], dtype=np.float16), scales.shape)
    return codes, scales, query


def dense_orders(codes, scales, query):
    """Dense float32 values as differently built kernels would add them up, each [units]."""
    query_codes, query_scales = quantize_query(query)
    units, groups = scales.shape
    factors = scales.astype(np.float32) * query_scales
    products = codes.reshape(units, groups, GROUP).astype(np.float32) * query_codes
    corrections = -128.0 * query_codes.sum(-1)
    sums = products.sum(-1) + corrections

    forward, backward, separate = (np.zeros(units, np.float32) for _ in range(3))
    lanes = np.zeros((units, 8), np.float32)
    for group in range(groups):
        other = groups - 1 - group
        forward += factors[:, group] * sums[:, group]
        backward += factors[:, other] * sums[:, other]
        separate += factors[:, group] * products[:, group].sum(-1)
        lanes += factors[:, group, None] * products[:, group].reshape(units, 8, 4).sum(-1)
    for group in range(groups):
        separate += factors[:, group] * corrections[group]
        lanes[:, 0] += factors[:, group] * corrections[group]
    lane_sums = np.zeros(units, np.float32)
    for lane in range(8):
        lane_sums += lanes[:, lane]
    return {"forward": forward, "backward": backward, "separate corrections": separate, "lanes": lane_sums}


@settings(max_examples=300)
@given(adversarial())
def test_bound_holds_for_every_order_of_sums(case):
    codes, scales, query = case
    state = split_planes(codes, scales)
    with np.errstate(all="ignore"):
        estimate = ESTIMATOR.score(state, query)
        lower, upper = estimate.values - estimate.margins, estimate.values + estimate.margins
        values = dense_orders(codes, scales, query)
        values["twin"] = row_values(state, query, np.arange(len(codes)))
    assert estimate.values.dtype == estimate.margins.dtype == np.float32
    for order, dense in values.items():
        finite = np.isfinite(dense)
        inside = (lower <= dense) & (dense <= upper)
        assert np.all(inside | ~finite), f"{order}: outside at rows {np.flatnonzero(~inside)}"
        assert np.all(np.isinf(estimate.margins[~finite]))


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, 3e38])
def test_nothing_is_claimed_for_a_query_out_of_range(bad):
    state = split_planes(np.full((3, 64), 255, np.uint8), np.full((3, 2), 1.0, np.float16))
    query = np.ones(64, np.float32)
    query[40] = bad
    with np.errstate(all="ignore"):
        estimate = ESTIMATOR.score(state, query)
    assert np.all(estimate.values == 0)
    assert np.all(np.isinf(estimate.margins))


def test_bound_is_reached_but_for_the_rounding_allowance():
    codes = np.full((1, 64), 0x8F, np.uint8)  # every lower half is 15
    state = split_planes(codes, np.ones((1, 2), np.float16))
    query = np.linspace(1, 2, 64, dtype=np.float32)
    estimate = ESTIMATOR.score(state, query)
    gap = row_values(state, query, np.array([0])) - estimate.values
    np.testing.assert_allclose(gap / estimate.margins, 7.5 / bound_factor(2), rtol=1e-5)
    assert bound_factor(2) < 7.51


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_planes_hold_the_codes(units, groups, seed):
    codes = np.random.default_rng(seed).integers(0, 256, (units, groups * GROUP), dtype=np.uint8)
    upper, lower = (
        _unpack_nibbles(_pack_nibbles(plane), np.zeros(0, np.uint8)) for plane in (codes >> 4, codes & 15)
    )
    np.testing.assert_array_equal((16 * upper + lower).reshape(codes.shape), codes)


def test_rows_that_are_8_bit_already_keep_their_values():
    rng = np.random.default_rng(0)
    codes = rng.integers(-127, 128, (50, 4, GROUP))
    codes[..., 0] = 127  # as in every group that was quantized by its largest value
    scales = (2.0 ** rng.uniform(-12, 2, (50, 4, 1))).astype(np.float16)
    table = (codes * scales.astype(np.float32)).astype(np.float32).reshape(50, -1)
    state = ESTIMATOR.fit(table, table[:1])
    np.testing.assert_array_equal(state["scales"], scales[..., 0])
    np.testing.assert_array_equal(
        state["upper"], split_planes((codes + 128).astype(np.uint8).reshape(50, -1), 0)["upper"]
    )


def test_query_codes_stay_in_range_and_tiny_groups_count_as_zero():
    query = np.concatenate([np.full(GROUP, 1e-44), np.linspace(-3, 3, GROUP)]).astype(np.float32)
    codes, scales = quantize_query(query)
    assert scales[0] == 0
    assert not codes[0].any()
    assert np.abs(codes).max() == 127
    np.testing.assert_allclose(codes[1] * scales[1], query[GROUP:], atol=scales[1] / 2)


def test_width_must_be_whole_groups():
    with pytest.raises(UsageError, match="multiple of 32"):
        ESTIMATOR.fit(np.ones((3, 40), np.float32), np.ones((1, 40), np.float32))
