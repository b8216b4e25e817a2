"""Few bits: nearest codes, scales that fit, and the grouping that errs less."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shortlist.errors import UsageError
from shortlist.estimators.quantized import Quantized, choose_scales

ALL = [
    Quantized(b, s, c) for b in (1, 2, 3, 4) for s in ("row", "group", "input") for c in ("linear", "shift")
]


def problem(units=70, width=72, seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.standard_normal((units, width)).astype(np.float32),
        rng.standard_normal((500, width)).astype(np.float32),
    )


def error(estimator, table, queries):
    values = estimator.score(estimator.fit(table, queries), queries).values
    return float(np.sqrt(np.mean((values - queries @ table.T) ** 2)))


@pytest.mark.parametrize("scales", ["row", "group", "input"])
@pytest.mark.parametrize("code", ["linear", "shift"])
def test_more_bits_err_less(scales, code):
    table, queries = problem()
    errors = [error(Quantized(bits, scales, code), table, queries) for bits in (1, 2, 3, 4)]
    if code == "linear":
        assert errors == sorted(errors, reverse=True)
    else:  # a fourth bit adds smaller powers of two only
        assert errors[:3] == sorted(errors[:3], reverse=True)
        assert errors[3] <= errors[2] * 1.01


@settings(max_examples=40)
@given(st.sampled_from(ALL), st.integers(1, 40), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_every_weight_has_the_nearest_code(estimator, units, width, seed):
    table, queries = problem(units, width, seed)
    table[0] = 0
    state = estimator.fit(table, queries)
    estimator.check(state, units, width)
    decoded = estimator.decode(state, slice(0, units), width)
    scale = estimator._spread_out(state["scales"].astype(np.float32), table.shape)
    levels = estimator._levels(scale)
    assert len(set(np.abs(levels).tolist()) & {0.0}) == 0
    nearest = np.min(np.abs(table[..., None] - scale[..., None] * levels), axis=-1)
    np.testing.assert_allclose(np.abs(table - decoded), nearest, atol=1e-5)


@pytest.mark.parametrize("estimator", ALL)
def test_rows_that_are_codes_already_are_kept(estimator):
    levels = estimator._levels(np.zeros(1, np.float32))
    rng = np.random.default_rng(1)
    table = 0.5 * rng.choice(levels, (64, 64))
    table[:, ::32] = table[::32, :] = 0.5  # the largest level is in every run
    table[0] = 0.5
    assert error(estimator, table, problem(width=64)[1]) < 1e-3


def test_sizes_are_those_of_the_bits():
    state = Quantized(3, "group").fit(*problem(width=64))
    assert state["planes"].nbytes == 70 * 64 * 3 // 8
    assert state["scales"].nbytes == 70 * 2 * 2
    assert Quantized(3, "input").bytes_per_query(64, 640) == Quantized(3, "group").bytes_per_query(64, 640)


def test_the_grouping_that_errs_less_is_chosen():
    rng = np.random.default_rng(0)
    table, queries = problem(128, 128)
    channels, rows = np.geomspace(1, 30, 128), np.geomspace(1, 30, 128)
    by_channel = table * rng.permutation(channels).astype(np.float32)
    by_row = table * rng.permutation(rows).astype(np.float32)[:, None]
    assert choose_scales(by_channel, queries, 3).scales == "input"
    assert choose_scales(by_row, queries, 3).scales == "group"


@pytest.mark.parametrize("options", [{"bits": 0}, {"bits": 5}, {"scales": "column"}, {"code": "ternary"}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(UsageError, match="quantized"):
        Quantized(**options)
