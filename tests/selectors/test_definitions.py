"""Each selector keeps exactly the set of its definition, also under ties, NaN, equal scores and no units."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shortlist.errors import UsageError
from shortlist.estimators.base import Scores
from shortlist.selectors import (
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
from shortlist.selectors.base import best_of_blocks
from shortlist.selectors.two_stage_top_k import best_of_buckets, expected_recall, plan

SCORES = st.one_of(
    st.lists(st.integers(-2, 2).map(float), max_size=60),
    st.lists(st.sampled_from([1.0, math.nan, -1.0, math.inf, -math.inf]), max_size=60),
    st.lists(st.floats(-100, 100, width=32), max_size=60),
    st.integers(0, 60).map(lambda units: [1.0] * units),
)
COUNT = st.integers(1, 40)


def shortlist(selector, scores):
    """What is chosen where every estimate is right, and which units were read."""
    values = np.array(scores, np.float32)
    read = []

    def exact(indices):
        read.extend(indices.tolist())
        return values[indices]

    with np.errstate(invalid="ignore"):
        chosen = selector.select(Scores(values), exact)
    assert sorted(set(read)) == sorted(read)
    assert len(read) == chosen.rows_read
    return chosen.indices.tolist()


def largest(scores, count, among=None):
    """Indices of the best units: NaN first, then by value, then by index."""

    def order(i):
        return (-(math.inf if math.isnan(scores[i]) else scores[i]), i)

    return sorted(sorted(range(len(scores)) if among is None else among, key=order)[:count])


@given(SCORES, COUNT, st.integers(0, 20))
def test_top_k(scores, count, more):
    assert shortlist(TopK(count), scores) == largest(scores, count)
    assert shortlist(TopK(count, fetch=count + more), scores) == largest(scores, count)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 50), st.booleans())
def test_top_k_of_many_units(seed, count, ties):
    scores = np.random.default_rng(seed).standard_normal(3000).astype(np.float32)
    scores = (np.round(scores) if ties else scores).tolist()
    assert shortlist(TopK(count), scores) == largest(scores, count)


@given(SCORES, COUNT, st.integers(1, 9))
def test_grouped_top_k(scores, count, group):
    starts = range(0, len(scores), group)
    bests = [scores[largest(scores[s : s + group], 1)[0] + s] for s in starts]
    members = [i for g in largest(bests, -(-count // group)) for i in range(g * group, (g + 1) * group)]
    members = [i for i in members if i < len(scores)]
    assert shortlist(GroupedTopK(count, group=group), scores) == largest(scores, count, members)


@given(SCORES, COUNT, st.sampled_from([0.5, 0.9, 1.0]))
def test_two_stage_top_k(scores, count, recall):
    survivors = range(len(scores))
    if count < len(scores):
        buckets, per_bucket = plan(len(scores), count, recall)
        survivors = [
            i for b in range(buckets) for i in largest(scores, per_bucket, range(b, len(scores), buckets))
        ]
    assert shortlist(TwoStageTopK(count, recall=recall), scores) == largest(scores, count, survivors)
    if recall == 1.0:
        assert shortlist(TwoStageTopK(count, recall=recall), scores) == largest(scores, count)


@given(SCORES, st.floats(-3, 3))
def test_threshold(scores, threshold):
    wanted = [i for i, score in enumerate(np.array(scores, np.float32)) if not score < threshold]
    assert shortlist(Threshold(threshold), scores) == wanted


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=60), st.floats(0.02, 1))
def test_calibrated_threshold_keeps_the_share_and_ties(values, keep):
    values = np.array(values, np.float32)
    count = round(keep * len(values))
    if count == 0:
        with pytest.raises(UsageError, match="no threshold keeps a share"):
            Threshold.calibrated(values[None], keep)
    else:
        least = sorted(values, reverse=True)[count - 1]
        kept = shortlist(Threshold.calibrated(values[None], keep), values)
        assert kept == [i for i, value in enumerate(values) if value >= least]


@given(SCORES, st.floats(0.01, 1))
def test_statistical_top_k(scores, keep):
    values = np.array(scores, np.float32)
    kept = shortlist(StatisticalTopK(keep), scores)
    if not np.isfinite(values).all() or keep == 1:
        assert kept == list(range(len(scores)))
    elif len(scores):
        threshold = values.mean() + values.std() * NormalDist().inv_cdf(1 - keep)
        near = 1e-4 * (1 + abs(threshold))
        assert {i for i, v in enumerate(values) if v > threshold + near} <= set(kept)
        assert set(kept) <= {i for i, v in enumerate(values) if v > threshold - near}


def test_statistical_top_k_keeps_its_share_of_normal_scores():
    scores = np.random.default_rng(0).standard_normal(20_000)
    for keep in (0.05, 0.3, 0.8):
        assert len(shortlist(StatisticalTopK(keep), scores)) / 20_000 == pytest.approx(keep, abs=0.01)


@given(SCORES, st.integers(1, 40), st.floats(0, 3))
def test_margin(scores, fetch, margin):
    first = largest(scores, fetch)
    others = [i for i in range(len(scores)) if i not in first]
    wanted = first
    if others:
        values = [math.inf if math.isnan(scores[i]) else scores[i] for i in others]
        with np.errstate(invalid="ignore"):
            lead = np.array(scores, np.float32)[first].max() - np.float32(
                max(values)
            )  # NaN where nothing is known
        wanted = first if lead >= margin else sorted(first + others)
    assert shortlist(Margin(fetch, margin), scores) == wanted


@given(SCORES, st.floats(0.01, 1), st.sampled_from(["sizes", "logits"]))
def test_score_mass(scores, mass, kind):
    kept = shortlist(ScoreMass(mass, scores=kind), scores)
    values = np.array(scores, np.float32)
    with np.errstate(invalid="ignore"):
        masses = np.exp(values - values.max(initial=-math.inf)) if kind == "logits" else np.maximum(values, 0)
    masses = masses.astype(np.float64)
    if mass == 1 or not np.isfinite(masses.sum()):
        assert kept == list(range(len(scores)))
        return
    assert kept == largest(scores, len(kept))
    ordered, wanted = sorted(masses, reverse=True), mass * masses.sum()
    assert sum(ordered[: len(kept)]) >= wanted * (1 - 1e-9)
    if kept:
        assert sum(ordered[: len(kept) - 1]) < wanted * (1 + 1e-9)


@given(SCORES, st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_bounds_and_spreads(scores, seed, probes):
    values = np.array(scores, np.float32)
    rng = np.random.default_rng(seed)
    width = rng.choice(np.array([0.0, 0.5, 3.0, np.inf, np.nan], np.float32), len(values))
    first = best_of_blocks(values, probes).tolist()
    with np.errstate(invalid="ignore"):
        mark = values[first].max(initial=-np.inf)
        ends = {Certified(probes): values + width, Confidence(2.0, probes=probes): values + 2 * width}
        for selector, upper in ends.items():
            wanted = sorted({*first, *np.flatnonzero(~(upper < mark)).tolist()})
            found = selector.select(Scores(values, width), lambda i: values[i])
            assert found.indices.tolist() == wanted


@settings(max_examples=200)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=60), st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_a_certified_set_holds_the_first_winner_whatever_errors_its_bounds_allow(values, seed, probes):
    exact = np.array(values, np.float32)
    rng = np.random.default_rng(seed)
    bound = rng.integers(0, 5, len(exact)).astype(np.float32)
    against = np.where(exact == exact.max(), -1, 1).astype(np.float32)  # winners look worst, others best
    found = Certified(probes).select(Scores(exact + against * bound, bound), lambda i: exact[i])
    assert set(np.flatnonzero(exact == exact.max())) <= set(found.indices.tolist())


@given(SCORES)
def test_bounds_and_spreads_of_zero_leave_the_ties_of_the_best(scores):
    known = [score for score in scores if not math.isnan(score)]
    best = {i for i, score in enumerate(scores) if math.isnan(score) or score == max(known)}
    for selector in (Certified(probes=1), Confidence(probes=1)):
        assert best <= set(shortlist(selector, scores))
        assert shortlist(selector, []) == []


@pytest.mark.parametrize(("count", "buckets", "per_bucket"), [(32, 64, 1), (32, 64, 2), (100, 40, 4)])
def test_expected_recall_is_that_of_random_placements(count, buckets, per_bucket):
    rng = np.random.default_rng(0)
    units, trials = 1280, 400
    found = 0
    for _ in range(trials):
        values = rng.permutation(units).astype(np.float32)
        found += np.isin(best_of_buckets(values, buckets, per_bucket), largest(values, count)).sum()
    measured = found / (trials * count)
    assert measured == pytest.approx(expected_recall(units, count, buckets, per_bucket), abs=0.01)


@given(st.integers(2, 300_000), st.data())
@settings(max_examples=50)
def test_plans_reach_the_recall_with_no_bucket_to_spare(units, data):
    count = data.draw(st.integers(1, units))
    recall = data.draw(st.floats(0.5, 0.999))
    buckets, per_bucket = plan(units, count, recall)
    assert expected_recall(units, count, buckets, per_bucket) >= recall - 1e-9
    assert buckets == 1 or expected_recall(units, count, buckets - 1, per_bucket) < recall
