"""The three heads agree: shortlisted values are dense values, and the exact winner is the dense winner."""

from functools import partial

import numpy as np
import pytest
from heads import low_rank_head
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shortlist import _native
from shortlist.errors import CheckpointError, UsageError
from shortlist.estimators import Scores
from shortlist.estimators.bit_planes import BitPlanes, row_values, split_planes
from shortlist.estimators.low_rank import LowRank
from shortlist.selectors import Certified, Confidence
from shortlist.selectors.distribution import distribution
from shortlist.sites.head import Head, exact_head, softcap


def pack(codes: np.ndarray, scales: np.ndarray) -> _native.Rows:
    return _native.Rows.pack_int8(codes.astype(np.int8), scales.astype(np.float16).view(np.uint16))


@st.composite
def heads_and_queries(draw):
    """Rows and queries meant to break a bound: extreme scales, equal rows, ties, zeros, one huge entry."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, width = draw(st.integers(1, 200)), draw(st.sampled_from([1, 31, 32, 64, 96, 320]))
    groups = -(-width // 32)
    codes = rng.integers(-128, 128, (rows, width))
    kind = draw(st.sampled_from(["random", "equal rows", "extreme codes", "low nibbles only", "zeros"]))
    if kind == "equal rows":
        codes[:] = codes[0]
    elif kind == "extreme codes":
        codes = rng.choice([-128, -127, 127], (rows, width))
    elif kind == "low nibbles only":  # the upper planes are all the same: nothing can be told apart
        codes = rng.integers(0, 16, (rows, width))
    elif kind == "zeros":
        codes[:] = 0
    exponent = draw(st.sampled_from([(0, 0), (-12, 3), (-20, -14)]))
    scales = rng.choice([-1, 1], (rows, groups)) * 2.0 ** rng.uniform(*exponent, (rows, groups))
    query = rng.normal(size=width) * 10.0 ** draw(st.sampled_from([-20, -3, 0, 4]))
    query[rng.integers(width)] *= draw(st.sampled_from([0, 1, 1e4]))
    return pack(codes, scales), query.astype(np.float32)


@settings(max_examples=300)
@given(heads_and_queries())
def test_bounds_always_hold_and_the_exact_winner_is_the_dense_winner(case):
    rows, query = case
    dense, exact = Head(rows), exact_head(rows)
    logits, _ = dense.logits(query)
    lower, upper = exact.bounds(query)
    assert (lower <= logits).all()
    assert (logits <= upper).all()
    token, read = exact.argmax(query)
    assert token == dense.argmax(query)[0] == logits.argmax()
    assert 1 <= read.rows <= rows.rows


@settings(max_examples=50)
@given(heads_and_queries(), st.integers(0, 2**32 - 1))
def test_chosen_rows_have_their_dense_values(case, seed):
    rows, query = case
    chosen = np.random.default_rng(seed).integers(0, rows.rows, 20).astype(np.int32)
    assert np.array_equal(exact_head(rows).exact_rows(query, chosen), Head(rows).logits(query)[0][chosen])


@pytest.fixture(scope="module", params=[None, 32], ids=["8 bits", "8 and 4 bits"])
def fitted(request):
    """A head whose queries lie mostly in few directions, and the low-rank state fitted to it."""
    rng = np.random.default_rng(0)
    width, rows = 96, 1500
    basis = rng.normal(size=(width, width)) * 0.9 ** np.arange(width)
    queries = (rng.normal(size=(600, width)) @ basis.T).astype(np.float32)
    packed = pack(rng.integers(-127, 128, (rows, width)), rng.uniform(0.01, 0.02, (rows, width // 32)))
    estimator = LowRank(rank=32 if request.param is None else 64, eight_bit=request.param)
    return packed, estimator, estimator.fit(packed, queries[:500]), queries[500:]


def estimated(head: Head, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values and reach of all rows."""
    found = head.estimate(hidden)
    assert found is not None
    return found


def test_estimated_head_is_the_fused_twin_of_estimator_and_selector(fitted):
    rows, estimator, state, queries = fitted
    head = low_rank_head(rows, state, Confidence(5.0))
    for query in queries[:20]:
        twin = estimator.score(state, query)
        values, spread = estimated(head, query)
        # The native path rounds the query's code to int8 and the projection to float16.
        assert np.abs(values - twin.values).max() <= 0.02 * np.abs(twin.values).max()
        assert np.allclose(spread, twin.reach(), rtol=1e-2)
        selected = Confidence(5.0).select(Scores(values, spread), partial(exact_head(rows).exact_rows, query))
        differing = np.setxor1d(selected.indices, head.shortlist(query))
        assert len(differing) <= 2  # rows whose margin is the mark itself, up to rounding
        chosen = head.shortlist(query)
        assert (np.diff(chosen) > 0).all()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("share", [0.0, 1e-4, 0.01, 1.0])
def test_the_native_distribution_is_that_of_the_twin(fitted, threads, share):
    rows, _, state, queries = fitted
    selector = Confidence(1.0, most=50, probes=16)
    head, dense = low_rank_head(rows, state, selector), Head(rows)
    before = _native.threads()
    _native.set_threads(threads)
    try:
        for query in queries[:20]:
            estimate = Scores(*head.estimate(query))
            exact = partial(dense.exact_rows, query)
            selected = selector.select(estimate, exact)
            expected, expected_rows = distribution(estimate, selected, exact, share)
            policy = _native.Policy.probes(1.0, 50, 16)
            logits, rows_read = head._native.distribution(head._scorer, query, policy, share)
            assert abs(rows_read - expected_rows) <= 5  # rows on the edge of a bin, up to rounding
            assert (~np.isclose(logits, expected, rtol=1e-4, atol=1e-4)).sum() <= 5
    finally:
        _native.set_threads(before)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_query_that_is_not_a_number_is_an_error_of_every_head_and_way(fitted, value):
    rows, _, state, queries = fitted
    query = queries[0].copy()
    query[3] = value
    estimated = low_rank_head(rows, state, Confidence(1.0, most=50, probes=16))
    heads = [Head(rows), estimated, *([exact_head(rows)] if rows.format == "q8" else [])]
    chosen = np.array([1, 5])
    for head in heads:
        for ask in (head.argmax, head.logits, lambda query, head=head: head.exact_rows(query, chosen)):
            with pytest.raises(CheckpointError, match="the head computes logits that are not finite"):
                ask(query)
        if head.name != "dense":
            with pytest.raises(CheckpointError, match="not finite"):
                (head.bounds if head.bounded else head.estimate)(query)
    with pytest.raises(CheckpointError, match="not finite"):
        heads[0].logits_together(np.stack([queries[1], query]))
    with pytest.raises(CheckpointError, match="not finite"):
        heads[-1].argmax_together(np.stack([queries[1], query]))
    with pytest.raises(CheckpointError, match="not finite"):
        estimated.shortlist(query)


@pytest.mark.parametrize("scale", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 63, 199])
def test_a_row_of_eight_bits_that_is_not_a_number_is_named(scale, row):
    scales = np.full((200, 2), 0.01)
    scales[row, 1] = scale
    rows = pack(np.ones((200, 64)), scales)
    rows.source = "models/m.gguf"
    for head in (Head, exact_head):
        with pytest.raises(CheckpointError, match=rf"^models/m.gguf: row {row} of the head holds .*: fetch"):
            head(rows)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("bits", [[], ["q8"], ["q4"]])
def test_a_row_of_floats_that_is_not_a_number_is_named(kind, bits):
    table = np.ones((70, 64), np.float32)
    table[69, 63], table[7, 0] = np.nan, np.inf
    raw = table.view(np.uint32) >> 16 if kind == "BF16" else table.astype("f2" if kind == "F16" else "f4")
    raw = raw.astype(np.uint16) if kind == "BF16" else raw
    rows = _native.Rows.pack(raw.view(np.uint8).reshape(-1), kind, 70, 64, *bits)
    with pytest.raises(CheckpointError, match="the head: row 7 of the head"):
        Head(rows)


def test_weights_of_any_finite_size_are_let_through_and_logits_that_overflow_are_not():
    table = np.full((40, 64), 3e38, np.float32)
    table[3] = 1.0
    rows = _native.Rows.pack(table.view(np.uint8).reshape(-1), "F32", *table.shape)
    head, query = Head(rows), np.ones(64, np.float32)
    assert head.exact_rows(query, np.array([3])).tolist() == [64.0]
    for ask in (head.argmax, head.logits, lambda query: head.exact_rows(query, np.array([4]))):
        with pytest.raises(CheckpointError, match="not finite"):
            ask(query)


def test_a_head_keeps_to_the_threads_of_its_rows():
    rows = pack(np.ones((300, 64)), np.full((300, 2), 0.01))
    rows.threads = 3
    head = Head(rows)
    assert head.workers.threads == 3
    with head.workers:
        assert _native.hold_pool(0)[1] == 3


def test_what_two_objects_bring_together_must_fit(fitted):
    rows, _, state, _ = fitted
    scorer = low_rank_head(rows, state, Confidence(5.0))._scorer
    policy = _native.Policy.probes(5.0, 10, 4)
    few = np.ones(64 * rows.cols, np.float32).view(np.uint8)
    few = _native.Head(_native.Rows.pack(few, "F32", 64, rows.cols))
    wide = np.ones(rows.rows * (rows.cols + 64), np.float32).view(np.uint8)
    wide = _native.Head(_native.Rows.pack(wide, "F32", rows.rows, rows.cols + 64))
    for head, width in ((few, rows.cols), (wide, rows.cols + 64)):
        query = np.ones(width, np.float32)
        calls = (
            (head.scores, query),
            (head.shortlist, query, policy),
            (head.distribution, query, policy, 0.1),
            (head.argmax, query[None], policy),
        )
        for call, *given_ in calls:
            with pytest.raises(ValueError, match="fitted on another head"):
                call(scorer, *given_)
    with pytest.raises(ValueError, match="the hidden state"):
        few.dense(np.ones(3, np.float32))
    with pytest.raises(ValueError, match="a hidden state"):
        few.dense_together(np.ones((2, 3), np.float32))
    assert few.dense_together(np.ones((0, rows.cols), np.float32)).shape == (0, 64)


def test_the_distribution_of_the_estimated_head_is_close_to_the_dense_one(fitted):
    rows, _, state, queries = fitted
    head, dense = low_rank_head(rows, state, Confidence(5.0)), Head(rows)
    for query in queries[:20]:
        query = query / 100
        logits, read = head.logits(query)
        exact = dense.logits(query)[0]
        chosen = head.shortlist(query)
        assert np.array_equal(logits[chosen], exact[chosen])
        assert len(chosen) <= read.rows <= rows.rows
        p, q = (np.exp(values - values.max()) for values in (logits, exact))
        assert 0.5 * np.abs(p / p.sum() - q / q.sum()).sum() < 0.01


def test_a_list_that_is_too_long_is_of_all_rows_and_the_winner_that_of_the_exact_head(fitted):
    rows, _, state, queries = fitted
    head, uncut = (low_rank_head(rows, state, Confidence(100.0, most=most, probes=2)) for most in (3, None))
    exact, all_read = exact_head(rows), 0
    for query in queries:
        listed = uncut.shortlist(query)
        chosen = head.shortlist(query)
        token, read = head.argmax(query)
        if len(listed) > 3 + 2:
            all_read += 1
            assert len(chosen) == rows.rows
            expected, alone = exact.argmax(query)
            assert (token, read.rows) == (expected, alone.rows)
            assert read.bytes == head.estimate_bytes + alone.bytes
        elif len(listed) <= 3:
            assert np.array_equal(chosen, listed)
            assert read.rows <= len(listed)
            assert read.bytes <= head.estimate_bytes + len(listed) * (rows.row_bytes + rows.upper_row_bytes)
    assert all_read > 10


def test_rows_that_are_not_in_8_bits_are_read_whole():
    rng = np.random.default_rng(1)
    weights, queries = rng.normal(size=(300, 64)), rng.normal(size=(200, 64)).astype(np.float32)
    rows = _native.Rows.pack(weights.astype(np.float16).view(np.uint8).reshape(-1), "F16", 300, 64)
    state = LowRank(32).fit(rows, queries)
    dense = Head(rows)
    lengths = set()
    for most in (50, 300):
        head = low_rank_head(rows, state, Confidence(4.0, most=most, probes=5))
        for query in queries[:50]:
            token, read = head.argmax(query)
            chosen = head.shortlist(query)
            lengths.add(len(chosen))
            assert token == chosen[np.argmax(dense.logits(query)[0][chosen])]
            assert read.rows == len(chosen)
            assert read.bytes == head.estimate_bytes + read.rows * rows.row_bytes
    assert 300 in lengths
    assert min(lengths) < 300


def test_estimated_head_finds_the_dense_winner(fitted):
    rows, _, state, queries = fitted
    head, dense = low_rank_head(rows, state, Confidence(5.0)), Head(rows)
    tokens = [head.argmax(q) for q in queries]
    assert [t for t, _ in tokens] == [dense.argmax(q)[0] for q in queries]
    assert np.mean([read.rows for _, read in tokens]) < 0.5 * rows.rows


def test_exact_head_names_the_way_out_of_another_format():
    rows = _native.Rows.pack(np.zeros(4 * 64, np.float32).view(np.uint8), "F32", 4, 64)
    with pytest.raises(UsageError, match="needs a head in 8 bits and this one is f32"):
        exact_head(rows)


def test_noise_is_the_definitions():
    from shortlist.engine.noise import gumbel_noise

    rows = np.arange(10_000, dtype=np.int32)[::3].copy()
    for seed, position in [(0, 0), (7, 123), (2**64 - 1, 8191)]:
        assert np.allclose(
            _native.gumbel_noise(seed, position, rows), gumbel_noise(seed, position, rows), atol=1e-6
        )


@settings(max_examples=100)
@given(heads_and_queries(), st.sampled_from([0.5, 30.0]))
def test_capped_logits_stay_within_bounds_in_order_and_the_same_in_every_head(case, cap):
    rows, query = case
    plain = Head(rows).logits(query)[0]
    dense, exact = Head(rows, cap), exact_head(rows, cap)
    logits, _ = dense.logits(query)
    assert np.allclose(logits, cap * np.tanh(plain.astype(np.float64) / cap), rtol=1e-5, atol=1e-6 * cap)
    lower, upper = exact.bounds(query)
    assert (lower <= logits).all()
    assert (logits <= upper).all()
    assert exact.argmax(query)[0] == dense.argmax(query)[0] == plain.argmax()
    every = np.arange(rows.rows)
    assert np.array_equal(exact.logits(query)[0], logits)
    assert np.array_equal(exact.exact_rows(query, every), logits)
    assert np.array_equal(dense.exact_rows(query, every[::-1])[::-1], logits)


def test_an_estimated_head_caps_what_it_estimates():
    rng = np.random.default_rng(0)
    rows = pack(rng.integers(-128, 128, (200, 64)), np.full((200, 2), 0.01))
    hidden = rng.normal(size=(150, 64)).astype(np.float32)
    state = LowRank(16).fit(rows, hidden)
    plain, capped = (low_rank_head(rows, state, Confidence(5.0), cap) for cap in (None, 3.0))
    assert np.array_equal(capped.logits(hidden[0])[0], softcap(plain.logits(hidden[0])[0], 3.0))
    (values, spread), (capped_values, capped_spread) = (
        estimated(head, hidden[0]) for head in (plain, capped)
    )
    assert np.array_equal(capped_values, softcap(values, 3.0))
    ends = softcap(values + spread, 3.0) - softcap(values - spread, 3.0)
    assert np.allclose(capped_spread, ends / 2, atol=1e-6)
    chosen = np.array([7, 3])
    assert np.array_equal(capped.exact_rows(hidden[0], chosen), Head(rows, 3.0).logits(hidden[0])[0][chosen])


@settings(max_examples=15)
@given(st.integers(1, 9), st.integers(0, 99))
def test_several_queries_get_what_each_gets_alone(count, seed):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(700, 64)).astype(np.float32)
    rows = _native.Rows.pack(table.view(np.uint8).reshape(-1), "F32", *table.shape, format="q8")
    hidden = rng.normal(size=(count, 64)).astype(np.float32)
    for head in (Head(rows), exact_head(rows)):
        assert head.argmax_together(hidden) == [head.argmax(each) for each in hidden]


@given(st.integers(1, 9), st.integers(0, 40), st.sampled_from([3, 20, None]))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_several_estimates_get_what_each_gets_alone(fitted, count, first, most):
    rows, _, state, queries = fitted
    head = low_rank_head(rows, state, Confidence(4.0, most=most, probes=5))
    hidden = np.ascontiguousarray(queries[first : first + count])
    assert head.argmax_together(hidden) == [head.argmax(each) for each in hidden]


@pytest.mark.parametrize("width", [64, 256, 576])
def test_the_exact_head_is_bit_planes_with_certified(width):
    """Estimates, bounds, which rows are read, and their values, beside the readable twins."""
    rng = np.random.default_rng(width)
    codes, scales = rng.integers(-128, 128, (3000, width)), rng.uniform(0.5, 1.5, (3000, width // 32)) / 100
    rows = pack(codes, scales)
    head, probes = exact_head(rows), 256
    state = split_planes((codes + 128).astype(np.uint8), scales.astype(np.float16))
    for _ in range(10):
        query = rng.normal(size=width).astype(np.float32)
        twin = BitPlanes().score(state, query)
        middle, radius = head._native.scores(head._scorer, query)
        assert np.allclose(middle, twin.values, rtol=1e-5, atol=1e-5 * np.abs(middle).max())
        assert np.allclose(radius, twin.margins, rtol=0.02)
        exact = partial(head.exact_rows, query)
        assert np.allclose(exact(np.arange(9)), row_values(state, query, np.arange(9)), rtol=1e-4, atol=1e-4)
        [(token, value, read, upper)] = head._native.argmax(head._scorer, query[None], head._policy)
        same = Certified(probes).select(Scores(middle, radius), exact)
        assert (read, upper) == (len(same.indices), 0)
        assert value == same.values.max()
        assert token == same.indices[np.argmax(same.values)]
        by_twin = Certified(probes).select(twin, exact)
        assert len(np.setxor1d(same.indices, by_twin.indices)) <= 0.02 * len(same.indices) + 2


def test_what_a_query_reads_of_each_head_in_bytes():
    rows = pack(np.ones((300, 64)), np.full((300, 2), 0.01))
    assert (rows.row_bytes, rows.upper_row_bytes, rows.nbytes) == (68, 36, 300 * 68)
    dense, exact = Head(rows), exact_head(rows)
    assert (dense.row_bytes, exact.row_bytes, exact.estimate_bytes) == (68, 68, 300 * 36)
    query = np.ones(64, np.float32)
    for _, read in (dense.argmax(query), dense.logits(query), exact.logits(query)):
        assert (read.rows, read.bytes) == (300, 300 * 68)
    assert (exact.read(7).rows, exact.read(7).bytes) == (7, 300 * 36 + 7 * 68)


@pytest.mark.parametrize("cap", [0.5, 30.0])
def test_capped_bounds_are_wider_by_a_millionth_of_the_cap(cap):
    rows = pack(np.arange(-64, 64).reshape(2, 64), np.full((2, 2), 0.01))
    query = np.ones(64, np.float32)
    lower, upper = exact_head(rows, cap).bounds(query)
    ends = [softcap(end, cap) for end in exact_head(rows).bounds(query)]
    assert np.allclose(ends[0] - lower, 1e-6 * cap, rtol=0.2)
    assert np.allclose(upper - ends[1], 1e-6 * cap, rtol=0.2)
    lower, upper = exact_head(rows).bounds(query)
    head = exact_head(rows)
    middle, radius = head._native.scores(head._scorer, query)
    assert np.array_equal(lower, middle - radius)
    assert np.array_equal(upper, middle + radius)
