import dataclasses

import numpy as np
import pytest
from engine.fakes import FixedHead
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shortlist import _native
from shortlist.engine.adjust import Adjustment
from shortlist.engine.exact_sampling import Asked, draw_together
from shortlist.engine.options import SamplingOptions
from shortlist.engine.sampling import sample
from shortlist.sites.head import Head, exact_head

HIDDEN = np.zeros(4, dtype=np.float32)


def draw(head, options, position, adjust):
    """One token of one text."""
    [drawn] = draw_together(head, HIDDEN[None], [Asked(options, position, adjust)])
    return drawn


def pack(codes, scales):
    """8-bit rows."""
    return _native.Rows.pack_int8(codes.astype(np.int8), scales.astype(np.float16).view(np.uint16))


class Always:
    """A constraint that allows the same rows at every step."""

    def __init__(self, rows):
        self.rows = rows

    def start(self, _tokenizer, _vocab_size):
        return self

    def push(self, _token):
        pass

    def allowed(self):
        return self.rows


tied = st.integers(-3, 3).map(float)
spread = st.floats(-40, 40, width=32)
gaps = st.sampled_from([0.0, 0.0, 1e-7, 0.1, 1.0, 100.0]) | st.floats(0, 5)


@st.composite
def bounded_heads(draw):
    """Logits with many ties or none, and bounds that are tight, loose or one-sided."""
    values = st.one_of(st.just(tied), st.just(spread))
    logits = np.array(draw(st.lists(draw(values), min_size=1, max_size=60)), dtype=np.float32)
    below = draw(st.lists(gaps, min_size=len(logits), max_size=len(logits)))
    above = draw(st.lists(gaps, min_size=len(logits), max_size=len(logits)))
    lower = np.minimum((logits - below).astype(np.float32), logits)
    upper = np.maximum((logits + above).astype(np.float32), logits)
    return FixedHead(logits, lower, upper)


option_sets = st.builds(
    SamplingOptions,
    temperature=st.sampled_from([0.0, 0.01, 0.7, 1.0, 1.5, 100.0]),
    top_k=st.sampled_from([0, 0, 1, 2, 40, 1000]),
    top_p=st.sampled_from([1.0, 1.0, 1e-9, 0.25, 0.5, 0.75, 0.95, 1 - 1e-15]) | st.floats(0.01, 1),
    min_p=st.sampled_from([0.0, 0.0, 1e-300, 0.05, 0.5, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.0, 0.5, 1.3, 100.0]),
    frequency_penalty=st.sampled_from([0.0, 0.0, -2.0, 0.3, 2.0]),
    presence_penalty=st.sampled_from([0.0, 0.0, -1.0, 0.5]),
    logit_bias=st.just({}) | st.dictionaries(st.integers(0, 3), st.floats(-100, 100, width=32), max_size=3),
    seed=st.integers(0, 2**64 - 1),
)


@settings(max_examples=400)
@given(bounded_heads(), option_sets, st.integers(0, 10_000), st.data())
def test_token_equals_the_dense_draw(head, options, position, data):
    count = len(head.values)
    tokens = st.lists(st.integers(0, count - 1), max_size=30)
    biases = {token: bias for token, bias in options.logit_bias.items() if token < count}
    allowed = data.draw(st.none() | st.lists(st.booleans(), min_size=count, max_size=count).filter(any))
    constraint = None if allowed is None else Always(np.array(allowed))
    options = dataclasses.replace(options, logit_bias=biases, constraint=constraint)
    adjust = Adjustment(options, data.draw(tokens), count, object())
    for token in data.draw(tokens):
        adjust.push(token)
    drawn = draw(head, options, position, adjust)
    assert drawn.token == sample(adjust(head.values), options, position)
    assert len(head.rows_read) == len(set(head.rows_read)), "no row is read twice"
    if not drawn.full:
        assert drawn.read.rows == len(head.rows_read)
        assert drawn.read.bytes == 1000 + 10 * drawn.read.rows


@settings(max_examples=100)
@given(
    st.integers(0, 2**32),
    st.floats(0.05, 0.999),
    st.sampled_from([0, 0, 20, 3000]),
    st.sampled_from([0.3, 1.0, 3.0]),
    st.floats(0, 3),
)
@example(0, 0.5, 0, 3.0, 0.0)
def test_nucleus_over_many_rows(seed, share, k, temperature, gap):
    """Vocabularies that are large enough for the brackets to be narrowed in rounds."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 4, 20_000).astype(np.float32)
    lower = logits - (gap * generator.random(len(logits))).astype(np.float32)
    upper = logits + (gap * generator.random(len(logits))).astype(np.float32)
    options = SamplingOptions(temperature=temperature, top_p=share, top_k=k, seed=seed)
    unchanged = Adjustment(options, [], len(logits))
    drawn = draw(FixedHead(logits, lower, upper), options, 0, unchanged)
    assert drawn.token == sample(logits, options, 0)


def test_equal_weights_at_the_edge_of_the_nucleus_read_all_rows():
    # Four equal rows and a share of exactly one half: only the dense order of summation can say where it
    # ends.
    head = FixedHead([1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 2])
    options = SamplingOptions(temperature=1.0, top_p=0.5, seed=0)
    unchanged = Adjustment(options, [], 4)
    draws = [draw(head, options, position, unchanged) for position in range(50)]
    dense = [sample(head.values, options, position) for position in range(50)]
    assert [drawn.token for drawn in draws] == dense
    assert set(dense) == {0, 1}
    assert any(drawn.full for drawn in draws)
    assert all(drawn.read.rows == 4 for drawn in draws if drawn.full)


def test_a_sure_model_reads_few_rows():
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 1, 10_000).astype(np.float32)
    logits[123] = 30
    head = FixedHead(logits, logits - 1, logits + 1)
    unchanged = Adjustment(SamplingOptions(), [], len(logits))
    for options in (
        SamplingOptions(),
        SamplingOptions(temperature=1.0, seed=1),
        SamplingOptions(temperature=1.0, top_p=0.9, seed=1),
        SamplingOptions(temperature=1.0, min_p=0.1, seed=1),
        SamplingOptions(temperature=1.0, top_k=5, top_p=0.9, seed=1),
    ):
        drawn = draw(head, options, 0, unchanged)
        assert drawn.token == 123
        assert not drawn.full
        assert drawn.read.rows <= 20


def drawn_and_dense(head, options, positions=range(60)):
    """Tokens at several positions, from bounds and from all logits; checks what draws say of their reads."""
    unchanged = Adjustment(options, [], len(head.values))
    exact = []
    for position in positions:
        head.rows_read.clear()
        drawn = draw(head, options, position, unchanged)
        exact.append(drawn.token)
        assert len(head.rows_read) == len(set(head.rows_read))
        rows, read = len(head.rows_read), drawn.read
        everything = len(head.values), 11_000 + 10 * rows
        assert (read.rows, read.bytes) == (everything if drawn.full else (rows, 1000 + 10 * rows))
        head.reads, head.full = head.reads + rows, head.full + drawn.full
    return exact, [sample(head.values, options, position) for position in positions]


@pytest.mark.parametrize(
    ("head", "options", "possible"),
    [
        # The first row looks best, so that its value, 5, is taken for the k-th; the true one is 6.
        (([5, 6], [5, 6], [9, 6]), {"top_k": 1}, {1}),
        # Likewise it is not what min-p compares with.
        (([5, 6], [5, 6], [9, 6]), {"min_p": 0.5}, {1}),
        # Its upper end reaches what min-p asks for; its value does not.
        (([6, 5], [6, 5], [6, 6]), {"min_p": 0.5}, {0}),
        # k + 1 equal rows.
        (([1, 1, 1, 1, 0], [0, 0, 0, 0, -1], [2, 2, 2, 2, 1]), {"top_k": 3}, {0, 1, 2}),
        (([1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0]), {"top_k": 3}, {0, 1, 2}),
        # The lower end of the last row equals the values of the two before it, and its value is greater.
        (([10, 8, 8, 9], [10, 7.5, 7.5, 8], [10, 9.9, 9.9, 9]), {"top_k": 3}, {0, 1, 3}),
    ],
)
def test_rows_at_the_edge_of_a_truncation(head, options, possible):
    exact, dense = drawn_and_dense(FixedHead(*head), SamplingOptions(temperature=1.0, seed=0, **options))
    assert exact == dense
    assert set(dense) == possible


@pytest.mark.parametrize("count", [3, 7, 10, 11])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.9])
def test_where_rounding_decides_what_the_nucleus_holds_it_is_the_dense_draws(count, share):
    head = FixedHead(*[[1.0] * count] * 3)
    options = SamplingOptions(temperature=1.0, top_p=share, seed=0)
    exact, dense = drawn_and_dense(head, options, range(80))
    assert exact == dense


def test_the_row_in_the_middle_of_its_bounds_is_read_first():
    head = FixedHead([4, 8], [4, 3], [4, 9])
    drawn_and_dense(head, SamplingOptions(), range(1))
    assert head.rows_read == [1]


# Rows read in each block, and draws that read all.
READS = [
    (962, 5),
    (967, 2),
    (969, 0),
    (799, 0),
    (892, 6),
    (860, 1),
    (819, 4),
    (971, 1),
]


@pytest.mark.parametrize("block", range(8))
def test_small_heads_with_ties_and_loose_bounds_draw_as_the_dense_one(block):
    """The same cases in every run, and what they read: hypothesis meets edges by chance."""
    generator, reads, full = np.random.default_rng(block), 0, 0
    for _ in range(100):
        count = generator.integers(1, 9)
        logits = generator.choice([-1.0, 0.0, 1.0, 2.0], count)
        below, above = generator.choice([0.0, 0.0, 1.0, 3.0, 40.0], (2, count))
        options = SamplingOptions(
            temperature=generator.choice([0.5, 1.0, 3.0]),
            top_k=int(generator.choice([0, 1, 2, 3, 5, count])),
            top_p=generator.choice([1.0, 0.25, 0.5, 0.75, 0.9]),
            min_p=generator.choice([0.0, 0.0, 0.05, 0.3, 1.0]),
            seed=int(generator.integers(2**32)),
        )
        head = FixedHead(logits, logits - below, logits + above)
        exact, dense = drawn_and_dense(head, options, range(3))
        assert exact == dense, (logits, below, above, options)
        reads, full = reads + head.reads, full + head.full
    assert (reads, full) == READS[block], "as many as there must be, and no more"


def test_where_bounds_are_too_wide_for_the_nucleus_all_rows_are_read_and_draw_the_same_token():
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, 20_000).astype(np.float32)
    head = FixedHead(logits, logits - np.float32(0.3), logits + np.float32(0.3))
    options = SamplingOptions(temperature=1.0, top_p=0.9, seed=3)
    unchanged = Adjustment(options, [], len(logits))
    draws = [draw(head, options, position, unchanged) for position in range(20)]
    assert [drawn.token for drawn in draws] == [sample(logits, options, position) for position in range(20)]
    assert [position for position, drawn in enumerate(draws) if drawn.full] == [6, 11]
    assert all(drawn.read.rows == 20_000 for drawn in draws if drawn.full)
    assert max(drawn.read.rows for drawn in draws if not drawn.full) <= 10


@settings(max_examples=40, deadline=None)
@given(
    st.lists(option_sets, min_size=1, max_size=5),
    st.integers(0, 2**32),
    st.sampled_from([None, 1.5]),
    st.sampled_from([1, 3]),
)
def test_texts_of_a_real_head_draw_together_what_each_draws_from_its_logits(asked, seed, cap, threads):
    """Dense and exact, over several blocks of rows, among them equal ones; penalties, biases and a cap."""
    generator = np.random.default_rng(seed)
    codes = generator.integers(-128, 128, (2500, 96))
    codes[1500:1900] = codes[100:500]
    rows = pack(codes, generator.uniform(0.5, 1.5, (2500, 3)).astype(np.float16) / 100)
    rows.threads = threads
    hidden = generator.normal(0, 2, (len(asked), 96)).astype(np.float32)
    texts = [
        Asked(options, position, Adjustment(options, [1, 2, 2400], 2500))
        for position, options in enumerate(asked)
    ]
    for text in texts:
        text.adjust.push(7)
    for head in (exact_head(rows, cap), Head(rows, cap)):
        draws = draw_together(head, hidden, texts)
        for state, text, drawn in zip(hidden, texts, draws, strict=True):
            expected = sample(text.adjust(head.logits(state)[0]), text.options, text.position)
            assert drawn.token == expected
            # What is read depends on how many threads share out the rows; the token does not.
            [alone] = draw_together(head, state[None], [text])
            assert alone.token == expected


def test_what_is_asked_of_a_draw_must_fit_the_head():
    rows = pack(np.ones((50, 64)), np.full((50, 2), 0.01))
    options = SamplingOptions(temperature=1.0, seed=1, repetition_penalty=1.1)
    short = Asked(options, 0, Adjustment(options, [], 49))
    with pytest.raises(ValueError, match="seen has 49 values where 50 are needed"):
        draw_together(Head(rows), np.ones((1, 64), np.float32), [short])
    fitting = Asked(options, 0, Adjustment(options, [], 50)).native(None)
    with pytest.raises(ValueError, match="each hidden state needs its settings"):
        Head(rows).draw_together(np.ones((2, 64), np.float32), [fitting])
    with pytest.raises(ValueError, match="a hidden state has 63 values where 64 are needed"):
        Head(rows).draw_together(np.ones((1, 63), np.float32), [fitting])
    ones = np.ones((50, 64), np.float32).view(np.uint8).reshape(-1)
    floats = Head(_native.Rows.pack(ones, "F32", 50, 64))
    with pytest.raises(ValueError, match="bounds need 8-bit rows; these are f32"):
        _native.sample(floats._native, np.ones((1, 64), np.float32), [fitting], True)
