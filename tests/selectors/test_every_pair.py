"""Every estimator with every selector: awkward tables, nothing lost where all is kept, values as computed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shortlist.estimators import (
    ESTIMATORS,
    BitPlanes,
    Codebook,
    Exact,
    Int4Copy,
    LowRank,
    LowRankSparse,
    Magnitude,
    MixedWidth,
    Neighbour,
    Quantized,
    Random,
    SharedCodebook,
    Sketch,
)
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

WIDTH = 32
PAIRED_ESTIMATORS = [
    BitPlanes(),
    Codebook(part=4),
    Codebook(part=2, rank=16),
    Exact(),
    Int4Copy(),
    LowRank(rank=16),
    LowRank(rank=8, metric="leanvec", spread_per_query=False),
    LowRankSparse(rank=8, outliers=2),
    Magnitude(),
    MixedWidth((8,)),
    Neighbour(),
    Quantized(bits=1),
    Quantized(bits=3, scales="input", code="shift"),
    Random(),
    SharedCodebook(part=3),
    Sketch(rank=8),
]
FEW = [
    Certified(probes=2),
    Confidence(sigma=3.0, probes=2),
    GroupedTopK(3, group=4),
    Margin(fetch=2, margin=0.1),
    ScoreMass(0.5),
    StatisticalTopK(0.2),
    Threshold(0.0),
    TopK(2, fetch=4),
    TwoStageTopK(3),
]
ALL = [
    Certified(),
    Confidence(sigma=1e30),
    GroupedTopK(1000),
    Margin(fetch=1, margin=float("inf")),
    ScoreMass(1.0),
    StatisticalTopK(1.0),
    Threshold(float("-inf")),
    TopK(1000),
    TwoStageTopK(1000),
]


@st.composite
def awkward(draw):
    """Table, queries to fit to and one to test, with rows that are zero, equal, or far larger than others."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    table = rng.standard_normal((draw(st.integers(1, 40)), WIDTH)).astype(np.float32)
    table *= 10.0 ** draw(st.integers(-4, 0))
    for kind in draw(st.sets(st.sampled_from(["zero", "equal", "large", "one input"]))):
        some = rng.random(len(table)) < 0.4
        if kind == "zero":
            table[some] = 0
        elif kind == "equal":
            table[some] = table[0]
        elif kind == "large":
            table[some] *= 30
        else:
            table[some, 1:] = 0
    queries = rng.standard_normal((50, WIDTH)).astype(np.float32)
    if draw(st.booleans()):
        queries[:, 5] *= 30
    return table, queries[1:], queries[0]


def estimated(estimator, table, fit, query):
    """The estimate, and what computes exact values. The units of `magnitude` are the inputs, not the rows."""
    if isinstance(estimator, Magnitude):
        return estimator.score(estimator.fit(table.T, table), table[0]), lambda indices: query[indices]
    return estimator.score(estimator.fit(table, fit), query), lambda indices: (table @ query)[indices]


def test_every_method_is_in_a_pair():
    assert {type(estimator) for estimator in PAIRED_ESTIMATORS} == set(ESTIMATORS.values())
    for selectors in (FEW, ALL):
        assert {type(selector) for selector in selectors} == set(SELECTORS.values())


@pytest.mark.parametrize("estimator", PAIRED_ESTIMATORS, ids=str)
@settings(max_examples=15)
@given(awkward())
def test_pairs(estimator, problem):
    estimate, exact = estimated(estimator, *problem)
    units = estimate.values.shape[0]
    assert np.all(np.isfinite(estimate.values))
    for few, everything in zip(FEW, ALL, strict=True):
        if few.needs not in (None, estimator.gives):
            continue
        chosen = few.select(estimate, exact)
        assert np.all(np.diff(chosen.indices) > 0)
        np.testing.assert_array_equal(chosen.values, exact(chosen.indices))
        if not isinstance(everything, Certified):  # which keeps only what its bounds leave
            kept = everything.select(estimate, exact)
            assert kept.rows_read == units
            assert kept.values.max() == exact(np.arange(units)).max()
