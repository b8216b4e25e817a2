"""What holds for every selector: a new one is a row in SELECTORS_UNDER_TEST."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shortlist.errors import UsageError
from shortlist.estimators.base import Scores
from shortlist.selectors import (
    SELECTORS,
    Certified,
    Confidence,
    GroupedTopK,
    Margin,
    ScoreMass,
    StatisticalTopK,
    Threshold,
    TopK,
    TwoStageTopK,
)
from shortlist.selectors.base import best, best_of_blocks

SELECTORS_UNDER_TEST = [
    pytest.param(TopK(5), id="top_k fixed"),
    pytest.param(TopK(3, fetch=9), id="top_k over-fetched"),
    pytest.param(Confidence(sigma=3.0, probes=4), id="confidence"),
    pytest.param(Confidence(sigma=3.0, most=2, probes=4), id="confidence, then all"),
    pytest.param(Certified(), id="certified"),
    pytest.param(GroupedTopK(5, group=4), id="grouped_top_k"),
    pytest.param(GroupedTopK(5, fetch=16), id="grouped_top_k over-fetched"),
    pytest.param(TwoStageTopK(5), id="two_stage_top_k"),
    pytest.param(TwoStageTopK(3, fetch=12, recall=0.8), id="two_stage_top_k over-fetched"),
    pytest.param(Threshold(0.5), id="threshold"),
    pytest.param(StatisticalTopK(0.2), id="statistical_top_k"),
    pytest.param(Margin(fetch=4, margin=0.5), id="margin"),
    pytest.param(ScoreMass(0.5), id="score_mass"),
    pytest.param(ScoreMass(0.5, scores="logits"), id="score_mass of logits"),
]
KEEP_ALL = [
    TopK(60),
    GroupedTopK(60),
    TwoStageTopK(60),
    TwoStageTopK(1, fetch=60),
    Threshold(float("-inf")),
    StatisticalTopK(1.0),
    Margin(fetch=60),
    Margin(fetch=1, margin=float("inf")),
    ScoreMass(1.0),
    Confidence(sigma=1e6),
]
every_selector = pytest.mark.parametrize("selector", SELECTORS_UNDER_TEST)


class Exact:
    """Exact values that are handed out by index, and what was asked for."""

    def __init__(self, values):
        self.values, self.asked = values, []

    def __call__(self, indices):
        self.asked += indices.tolist()
        return self.values[indices]


def problem(seed, units, ties):
    """Exact values and estimates of them whose errors stay within their bounds and mostly within 3 sigma."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(units).astype(np.float32)
    if ties:
        values = np.round(values)
    spread = rng.uniform(0.01, 0.3, units).astype(np.float32)
    noise = np.clip(rng.standard_normal(units), -2.5, 2.5).astype(np.float32) * spread
    return values, Scores(values + noise, spread)


def arrays(estimate, asarray):
    return Scores(asarray(estimate.values), asarray(estimate.margins))


def test_every_selector_is_tested():
    assert {type(parameters.values[0]) for parameters in SELECTORS_UNDER_TEST} == set(SELECTORS.values())
    assert all(kind.name == name for name, kind in SELECTORS.items())


@every_selector
@pytest.mark.parametrize("units", [0, 1, 2, 40])
def test_shortlist_is_ordered_and_carries_exact_values(selector, units, asarray):
    values, estimate = problem(seed=units, units=units, ties=False)
    exact = Exact(asarray(values))
    shortlist = selector.select(arrays(estimate, asarray), exact)
    indices = np.asarray(shortlist.indices)
    assert np.all(np.diff(indices) > 0)
    np.testing.assert_array_equal(np.asarray(shortlist.values), values[indices])
    assert len(exact.asked) == len(set(exact.asked)) == shortlist.rows_read
    assert set(indices.tolist()) <= set(exact.asked)


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.booleans())
def test_the_best_unit_is_found_where_it_is_promised(seed, units, ties):
    values, estimate = problem(seed, units, ties)
    for selector in (Confidence(sigma=3.0, probes=4), Certified()):
        wide = Scores(estimate.values, 2.6 * estimate.margins) if selector.needs == "bound" else estimate
        shortlist = selector.select(wide, Exact(values))
        assert shortlist.indices[np.argmax(shortlist.values)] == np.argmax(values), selector


@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.booleans())
def test_no_unit_is_lost_where_all_are_kept(seed, units, ties):
    values, estimate = problem(seed, units, ties)
    for selector in KEEP_ALL:
        shortlist = selector.select(estimate, Exact(values))
        assert shortlist.rows_read == units, selector
        assert shortlist.indices[np.argmax(shortlist.values)] == np.argmax(values), selector


@every_selector
def test_a_single_unit_may_be_asked_for_by_everything_being_equal(selector):
    estimate = Scores(*(np.full(20, value, np.float32) for value in (1.0, 0.1)))
    shortlist = selector.select(estimate, Exact(np.full(20, 1.0, np.float32)))
    assert shortlist.indices[np.argmax(shortlist.values)] == 0


def test_over_fetching_finds_what_the_estimate_ranks_lower():
    values = np.array([0.0, 5.0, 4.0, 3.0], np.float32)
    estimate = Scores(np.array([9.0, 1.0, 8.0, 7.0], np.float32))
    fixed = TopK(1).select(estimate, Exact(values))
    fetched = TopK(1, fetch=4).select(estimate, Exact(values))
    assert (fixed.indices.tolist(), fixed.rows_read) == ([0], 1)
    assert (fetched.indices.tolist(), fetched.rows_read) == ([1], 4)


def test_confidence_reads_more_when_less_sure():
    values = np.linspace(0, 1, 50, dtype=np.float32)
    lengths = [
        Confidence(sigma, probes=1).select(Scores(values, np.full(50, 0.1)), Exact(values)).rows_read
        for sigma in (0.0, 1.0, 5.0, 100.0)
    ]
    assert lengths == [1, 5, 25, 50]


def test_a_list_that_is_too_long_is_of_all_units():
    values = np.array([5.0, 4.0, 3.0, 2.0, 1.0], np.float32)
    estimate = Scores(values, np.array([1.0, 1.0, 1.0, 4.0, 1.0], np.float32))
    shortlist = Confidence(sigma=1.0, most=3, probes=1).select(estimate, Exact(values))
    assert shortlist.indices.tolist() == [0, 1, 3]  # 6, 5, 4, 6 and 2 against the probe's 5
    shortlist = Confidence(sigma=1.0, most=2, probes=1).select(estimate, Exact(values))
    assert shortlist.indices.tolist() == [0, 1, 2, 3, 4]
    assert shortlist.rows_read == 5


def test_certified_keeps_everything_that_nothing_is_known_of():
    estimate = Scores(np.zeros(6, np.float32), np.full(6, np.inf, np.float32))
    shortlist = Certified().select(estimate, Exact(np.arange(6.0)))
    assert shortlist.rows_read == 6


def test_a_missing_part_is_named_with_the_estimators_that_give_it():
    for given_ in (None, "bound"):
        with pytest.raises(
            UsageError, match=r"confidence needs a confidence, which x does not give; .* low_ra"
        ):
            Confidence().check("x", given_)
    for given_ in (None, "confidence"):
        with pytest.raises(
            UsageError, match=r"certified needs a bound, which x does not give; .* bit_planes$"
        ):
            Certified().check("x", given_)
    Confidence().check("x", "confidence")
    Certified().check("x", "bound")
    TopK(1).check("x", None)


def test_the_upper_end_is_the_value_and_so_many_times_the_scale_times_the_margin(asarray):
    values, margins, scale = (
        asarray(np.array(each, np.float32)) for each in ([[1, 2], [3, 4]], [1, 5], [2, 3])
    )
    several = Scores(values, margins, scale)
    np.testing.assert_array_equal(np.asarray(several.reach()), [[2, 10], [3, 15]])
    np.testing.assert_array_equal(np.asarray(several.upper(2.0)), [[5, 22], [9, 34]])
    one = Scores(values[0], margins, scale[1])
    np.testing.assert_array_equal(np.asarray(one.upper(2.0)), [7, 32])
    bare = Scores(values)
    np.testing.assert_array_equal(np.asarray(bare.upper(9.0)), np.asarray(values))
    assert tuple(bare.margins.shape) == (2,)


@pytest.mark.parametrize(
    "make",
    [
        lambda: TopK(0),
        lambda: TopK(5, fetch=4),
        lambda: Confidence(sigma=-1.0),
        lambda: Confidence(sigma=float("nan")),
        lambda: Confidence(probes=0),
        lambda: Confidence(most=0),
        lambda: Certified(probes=0),
        lambda: GroupedTopK(0),
        lambda: GroupedTopK(5, group=0),
        lambda: TwoStageTopK(5, fetch=4),
        lambda: TwoStageTopK(5, recall=0.0),
        lambda: TwoStageTopK(5, recall=1.1),
        lambda: Threshold(float("nan")),
        lambda: StatisticalTopK(0.0),
        lambda: StatisticalTopK(1.5),
        lambda: Margin(fetch=0),
        lambda: Margin(margin=float("nan")),
        lambda: ScoreMass(0.0),
        lambda: ScoreMass(0.5, scores="squares"),
    ],
)
def test_options_out_of_range_are_refused(make):
    with pytest.raises(UsageError):
        make()


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.integers(1, 35))
def test_best_prefers_the_lowest_index_among_equals(values, count):
    wanted = sorted(sorted(range(len(values)), key=lambda i: (-values[i], i))[:count])
    assert best(np.array(values, np.float32), count).tolist() == wanted


@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_best_of_blocks_covers_the_units_with_one_winner_each(units, blocks, seed):
    values = np.random.default_rng(seed).integers(-5, 5, (3, units)).astype(np.float32)
    found = best_of_blocks(values, blocks)
    size = -(-units // blocks)
    wanted = [[s + row[s : s + size].argmax() for s in range(0, units, size)] for row in values]
    assert found.tolist() == wanted
    assert found.shape[1] <= blocks
