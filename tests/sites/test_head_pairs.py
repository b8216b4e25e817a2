"""Every pair of estimator and selector that fits runs at the head; kernels give what Python lines give."""

from functools import partial

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shortlist import _native
from shortlist.errors import UsageError
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
from shortlist.sites.base import Part
from shortlist.sites.head import Head, HeadSite
from shortlist.sites.kernels import POLICIES, SCORERS

ROWS, WIDTH = 700, 64
ESTIMATORS_HERE = [
    BitPlanes(),
    Codebook(part=4),
    Exact(),
    Int4Copy(),
    LowRank(32),
    LowRank(24, spread_per_query=False),
    LowRankSparse(rank=16, outliers=2),
    MixedWidth(ranks=(48, 32, 8)),
    Quantized(bits=4),
    Random(),
    SharedCodebook(part=4),
    Sketch(rank=48),
]
SELECTORS_HERE = [
    Certified(probes=7),
    Confidence(sigma=4.0, probes=7),
    Confidence(sigma=4.0, most=20, probes=7),
    GroupedTopK(1, fetch=40, group=4),
    Margin(fetch=30, margin=0.5),
    ScoreMass(0.9, scores="logits"),
    StatisticalTopK(0.05),
    Threshold(3.0),
    Threshold(4.0, sigma=2.0),
    Threshold(1e9),
    TopK(1, fetch=30),
    TwoStageTopK(1, fetch=30),
]
PAIRS = [
    (estimator, selector)
    for estimator in ESTIMATORS_HERE
    for selector in SELECTORS_HERE
    if HeadSite.refusal(estimator, selector) is None
]


@pytest.fixture(scope="module")
def world():
    """Rows, examples and queries that lie mostly in few directions."""
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(WIDTH, WIDTH)) * 0.93 ** np.arange(WIDTH)
    table = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    queries = (rng.normal(size=(420, WIDTH)) @ basis.T).astype(np.float32) / 8
    rows = _native.Rows.pack(table.view(np.uint8).reshape(-1), "F32", ROWS, WIDTH, "q8")
    states = {estimator: estimator.fit(rows, queries[:400]) for estimator in ESTIMATORS_HERE}
    return rows, states, queries[400:]


def test_every_method_is_here():
    other = {Magnitude, Neighbour}  # refused
    assert {type(one) for one in ESTIMATORS_HERE} | other == set(ESTIMATORS.values())
    assert {type(one) for one in SELECTORS_HERE} == set(SELECTORS.values())
    assert len({(one.name, other.name) for one, other in PAIRS}) >= 40


def in_python(head: Head, state) -> Head:
    """The same head without kernels."""
    head._scorer = head._policy = None
    head._state = state
    return head


@pytest.mark.parametrize(("estimator", "selector"), PAIRS, ids=str)
def test_a_pair_gives_the_tokens_of_its_python_lines(world, estimator, selector):
    rows, states, queries = world
    state = states[estimator]
    head = Head(rows, None, estimator, selector, {} if estimator.from_table else state)
    twin = in_python(Head(rows, None, estimator, selector, state), state)
    dense = Head(rows)
    assert (head._scorer is not None) == (estimator.name in SCORERS)
    assert (head._policy is not None) == (selector.name in POLICIES)
    together = head.argmax_together(queries)
    for query, (token, read) in zip(queries, together, strict=True):
        if estimator.name != "exact":  # whose Python lines multiply floats, not what is stored
            assert token == twin.argmax(query)[0]
        assert (token, read) == head.argmax(query)
        assert 1 <= read.rows <= ROWS
        listed = head.shortlist(query)
        assert (np.diff(listed) > 0).all()
        assert listed.dtype == np.int32
        assert token == listed[np.argmax(dense.exact_rows(query, listed))]
        if head.exact:
            assert token == dense.argmax(query)[0]
    logits, read = head.logits(queries[0])
    assert logits[token] if head.exact else np.isfinite(logits).all()
    exact = dense.logits(queries[0])[0]
    p, q = (np.exp(values - values.max()) for values in (logits, exact))
    assert 0.5 * np.abs(p / p.sum() - q / q.sum()).sum() < 0.05
    assert read.rows <= ROWS


@pytest.mark.parametrize("estimator", [one for one in ESTIMATORS_HERE if one.name in SCORERS], ids=str)
def test_a_kernel_scores_as_its_python_lines_do(world, estimator):
    rows, states, queries = world
    state = states[estimator]
    part = Part(estimator, TopK(1), ROWS, WIDTH, state)
    scorer = SCORERS[estimator.name](part, rows)
    head = _native.Head(rows)
    for query in queries[:5]:
        values, reach = head.scores(scorer, query)
        twin = estimator.score(state, query)
        size = np.abs(twin.values).max()
        assert np.abs(values - twin.values).max() <= 0.02 * size  # queries are rounded to 8 bits
        assert np.allclose(reach, twin.reach(), rtol=1e-2)


@pytest.mark.parametrize("estimator", [LowRank(32), MixedWidth(ranks=(48, 32, 8)), Exact()], ids=str)
@pytest.mark.parametrize("selector", [one for one in SELECTORS_HERE if one.name in POLICIES], ids=str)
def test_native_selection_keeps_the_rows_that_the_selector_keeps(world, estimator, selector):
    """From the same scores. Probes of `mixed_width` are those of its own order, so its mark is another."""
    rows, states, queries = world
    if HeadSite.refusal(estimator, selector) or (estimator.name == "mixed_width" and selector.needs):
        pytest.skip("does not run, or has other probes")
    head = Head(rows, None, estimator, selector, states[estimator])
    for query in queries:
        exact = partial(head.exact_rows, query)
        scores = head.scores(query)
        read = []
        selector.select(scores, lambda rows, read=read, exact=exact: (read.extend(rows), exact(rows))[1])
        expected = sorted(read) or [int(np.argmax(scores.values))]
        differing = np.setxor1d(expected, head.shortlist(query))
        if not getattr(selector, "sigma", 0):
            assert differing.size == 0
        else:  # rows whose upper end is the mark itself, up to rounding
            probes = read[: getattr(selector, "probes", 0)]
            mark = exact(np.array(probes)).max() if probes else selector.threshold
            assert np.allclose(scores.upper(selector.sigma)[differing], mark, rtol=1e-5)


@st.composite
def planes(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, width = draw(st.integers(1, 90)), 32 * draw(st.integers(1, 21))
    codes = rng.integers(-128, 128, (rows, width)).astype(np.int8)
    codes[: draw(st.integers(0, rows))] = codes[0]  # ties
    scales = rng.choice([-1, 1], (rows, width // 32)) * 2.0 ** rng.uniform(-8, 1, (rows, width // 32))
    return codes, scales.astype(np.float16), rng.normal(size=width).astype(np.float32)


HAND = (np.full((2, 32), -128, np.int8), np.ones((2, 1), np.float16), np.ones(32, np.float32))


@settings(max_examples=100)
@given(planes(), st.integers(1, 300))
@example(HAND, 1)
def test_the_bound_of_the_kernel_is_that_of_bit_planes(case, probes):
    codes, scales, query = case
    rows = _native.Rows.pack_int8(codes, scales.view(np.uint16))
    from shortlist.estimators.bit_planes import split_planes

    twin = BitPlanes().score(split_planes((codes.astype(np.int16) + 128).astype(np.uint8), scales), query)
    head = Head(rows, None, BitPlanes(), Certified(probes))
    scores = head.scores(query)
    assert np.allclose(scores.margins, twin.margins, rtol=1e-5)
    assert np.all(np.abs(scores.values - twin.values) <= 1e-4 * twin.margins)
    exact = partial(head.exact_rows, query)
    mine = Certified(probes).select(scores, exact)
    listed = head.shortlist(query)
    if set(mine.indices) != set(listed):  # an end that is the mark itself, up to the rounding of one sum
        assert np.allclose(
            scores.upper()[np.setxor1d(mine.indices, listed)], exact(mine.indices).max(), rtol=1e-5
        )
    by_twin = Certified(probes).select(twin, exact)
    assert head.argmax(query)[0] == by_twin.indices[np.argmax(by_twin.values)]


def test_what_cannot_run_at_the_head_is_refused_with_the_reason(world):
    rows, _, _ = world
    for estimator, selector, words in (
        (Magnitude(), TopK(1), "magnitude scores the inputs of a matrix"),
        (Neighbour(), TopK(1), "neighbour guesses from the step before"),
        (BitPlanes(), Confidence(), "confidence needs a confidence"),
        (LowRank(32), Certified(), "certified needs a bound"),
    ):
        assert words in str(HeadSite.refusal(estimator, selector))
        with pytest.raises(UsageError, match=f"the head: .*{words}"):
            Head(rows, None, estimator, selector)


def test_policies_that_select_nothing_are_refused():
    for make, values in (
        (_native.Policy.kth_best, (0,)),
        (_native.Policy.probes, (1.0, 0, 4)),
        (_native.Policy.probes, (1.0, None, 0)),
    ):
        with pytest.raises(ValueError, match="at least one"):
            make(*values)


@pytest.mark.parametrize("order", [[0] * ROWS, [ROWS, *range(1, ROWS)], [-1, *range(1, ROWS)], [0]])
def test_an_order_that_does_not_name_each_row_once_is_refused(world, order):
    _, states, _ = world
    state = dict(states[LowRank(32)])
    projection = _native.Rows.pack(
        np.ascontiguousarray(state["projection"], np.float16).view(np.uint8).reshape(-1), "F16", WIDTH, WIDTH
    )
    nothing, no_scales = np.empty((ROWS, 0), np.uint8), np.empty((ROWS, 0), np.uint16)
    codes = _native.Codes(state["codes"], state["scales"].view(np.uint16), nothing, no_scales)
    with pytest.raises(ValueError, match=r"each of them once|do not fit"):
        _native.LowRank(projection, [codes], state["residual"], 32, np.array(order, np.int32))
