"""Penalties, biases and constraints with every head: what is promised of the choice, and of what is read."""

import numpy as np
import pytest
from engine.fakes import ByteTokenizer
from heads import low_rank_head
from hypothesis import given, settings
from hypothesis import strategies as st

from shortlist import _native
from shortlist.engine.adjust import Adjustment
from shortlist.engine.choose import CANDIDATES, Chooser
from shortlist.engine.constraints import Regex
from shortlist.engine.options import GenerationOptions
from shortlist.engine.sampling import sample
from shortlist.estimators.low_rank import LowRank
from shortlist.selectors import Confidence
from shortlist.sites.head import Head, exact_head

ROWS, WIDTH = 3000, 64
TOKENIZER = ByteTokenizer()  # the rows beyond its 258 tokens stand for nothing
rng = np.random.default_rng(5)


@pytest.fixture(scope="module")
def heads():
    codes = rng.integers(-128, 128, (ROWS, WIDTH)).astype(np.int8)
    scales = (2.0 ** rng.uniform(-12, -10, (ROWS, WIDTH // 32))).astype(np.float16)
    rows = _native.Rows.pack_int8(codes, scales.view(np.uint16))
    state = LowRank(rank=32).fit(rows, rng.normal(size=(400, WIDTH)).astype(np.float32))
    return {
        "dense": Head(rows),
        "exact": exact_head(rows),
        "estimated": low_rank_head(rows, state, Confidence(5.0)),
    }


def chooser(heads, name, options, prompt=(), answer=()):
    adjust = Adjustment(options, prompt, ROWS, TOKENIZER)
    made = Chooser(heads[name], heads["dense"], options, adjust, TOKENIZER)
    for token in answer:
        made.push(token)
    return made, adjust


sampling = {
    "temperature": st.sampled_from([0.0, 0.7, 1.5]),
    "top_k": st.sampled_from([0, 5]),
    "top_p": st.sampled_from([1.0, 0.6]),
    "seed": st.integers(0, 2**32),
}
biases = st.dictionaries(st.integers(0, ROWS - 1), st.floats(-100, 100), max_size=5)
patterns = st.sampled_from(["[0-9]+", "(a|b)c", r"(.|\n)*", "[^a-z]*"])
tokens = st.lists(st.integers(0, 255), max_size=10)
hidden_states = st.integers(0, 2**32).map(
    lambda seed: np.random.default_rng(seed).normal(size=WIDTH).astype(np.float32)
)


@settings(max_examples=80)
@given(
    st.builds(
        GenerationOptions,
        **sampling,
        logit_bias=biases,
        repetition_penalty=st.sampled_from([1.0, 1.5]),
        frequency_penalty=st.sampled_from([0.0, 1.1]),
        constraint=st.none() | patterns.map(Regex),
    ),
    hidden_states,
    tokens,
)
def test_the_exact_head_chooses_what_the_dense_head_does(heads, options, hidden, prompt):
    exact, adjust = chooser(heads, "exact", options, prompt)
    chosen = exact.choose(hidden, 9)
    assert chosen.token == sample(adjust(heads["dense"].logits(hidden)[0]), options, 9)
    assert chosen.token == chooser(heads, "dense", options, prompt)[0].choose(hidden, 9).token


@settings(max_examples=40)
@given(
    st.builds(
        GenerationOptions, **sampling, logit_bias=biases, constraint=st.none() | patterns.map(Regex)
    ).filter(lambda options: options.logit_bias or options.constraint),
    hidden_states,
)
def test_the_estimated_head_estimates_nothing_under_a_bias_or_a_constraint(heads, options, hidden):
    estimated, adjust = chooser(heads, "estimated", options)
    chosen = estimated.choose(hidden, 9)
    dense = sample(adjust(heads["dense"].logits(hidden)[0]), options, 9)
    greedy_of_all = options.greedy and adjust.only_constrains
    assert (
        chosen.token == dense or greedy_of_all
    )  # then the head's own greedy token is taken, if it is allowed
    assert adjust.allowed is None or adjust.allowed[chosen.token]


def test_where_few_rows_are_allowed_those_are_read(heads):
    hidden = rng.normal(size=WIDTH).astype(np.float32)
    for name in heads:
        chosen = chooser(heads, name, GenerationOptions(constraint=Regex("[0-9]")))[0].choose(hidden, 0)
        assert chr(chosen.token).isdigit()
        assert chosen.read.rows == 10
        assert chosen.read.bytes == 10 * heads["dense"].row_bytes
        assert not chosen.full


def test_reading_all_rows_is_said_so(heads):
    hidden = rng.normal(size=WIDTH).astype(np.float32)
    options = GenerationOptions(logit_bias={5: 1.0})
    assert chooser(heads, "estimated", options)[0].choose(hidden, 0).full
    assert not chooser(heads, "dense", options)[0].choose(hidden, 0).full


def test_one_text_may_be_read_with_the_dense_head(heads):
    made, _ = chooser(heads, "exact", GenerationOptions(dense_head=True, audit=1))
    chosen = made.choose(rng.normal(size=WIDTH).astype(np.float32), 0)
    assert made.head is heads["dense"]
    assert chosen.read.rows == ROWS
    assert chosen.agrees is None  # there is nothing to compare it with


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_audit_compares_every_so_many_tokens(heads, temperature):
    made, _ = chooser(heads, "exact", GenerationOptions(audit=3, temperature=temperature, seed=1))
    audits = []
    for position in range(7):
        chosen = made.choose(rng.normal(size=WIDTH).astype(np.float32), position)
        audits.append(chosen.agrees)
        made.push(chosen.token)
    assert audits == [True, None, None, True, None, None, True]


def test_an_audit_finds_what_the_dense_head_would_not_have_chosen(heads):
    hidden = rng.normal(size=WIDTH).astype(np.float32)
    order = np.argsort(-heads["dense"].logits(hidden)[0])

    class Third:
        """A head that takes the third best."""

        name = "third"

        def argmax(self, hidden):
            return int(order[2]), heads["dense"].logits(hidden)[1]

    made, _ = chooser({**heads, "third": Third()}, "third", GenerationOptions(audit=1))
    chosen = made.choose(hidden, 0)
    assert (chosen.agrees, chosen.dense_rank) == (False, 3)


def traced(heads, name, hidden, **options):
    return chooser(heads, name, GenerationOptions(trace=True, **options))[0].choose(hidden, 0)


@pytest.mark.parametrize("name", ["dense", "exact", "estimated"])
def test_a_trace_lists_the_likeliest_with_rank_value_and_probability(heads, name):
    hidden = rng.normal(size=WIDTH).astype(np.float32)
    logits = heads["dense"].logits(hidden)[0]
    chosen = traced(heads, name, hidden)
    order = np.argsort(-logits)
    found = chosen.candidates
    assert [each.token for each in found] == order[:CANDIDATES].tolist()
    assert [each.rank for each in found] == [1, 2, 3, 4, 5]
    assert [each.exact for each in found] == logits[order[:CANDIDATES]].tolist()
    weights = np.exp(logits.astype(np.float64) - logits.max())
    expected = (weights / weights.sum())[order[:CANDIDATES]]
    assert [each.probability for each in found] == pytest.approx(expected.tolist(), rel=1e-6)
    assert [each.chosen for each in found] == [each.token == chosen.token for each in found]
    assert sum(each.chosen for each in found) == 1
    assert chosen.trace_seconds > 0


def test_a_trace_says_how_far_an_estimate_may_be_off(heads):
    hidden = rng.normal(size=WIDTH).astype(np.float32)
    assert all(each.estimated is each.spread is None for each in traced(heads, "dense", hidden).candidates)
    lower, upper = heads["exact"].bounds(hidden)
    for each in traced(heads, "exact", hidden).candidates:
        assert each.spread is not None
        assert each.estimated is not None
        assert each.estimated == pytest.approx((lower[each.token] + upper[each.token]) / 2)
        assert each.spread == pytest.approx((upper[each.token] - lower[each.token]) / 2)
        assert abs(each.estimated - each.exact) <= each.spread + 1e-6
    values, spread = heads["estimated"].estimate(hidden)
    for each in traced(heads, "estimated", hidden).candidates:
        assert (each.estimated, each.spread) == (values[each.token], spread[each.token])


def test_a_trace_has_the_chosen_token_even_where_it_is_unlikely(heads):
    hidden = rng.normal(size=WIDTH).astype(np.float32)
    logits = heads["dense"].logits(hidden)[0]
    unlikely = int(np.argsort(-logits)[40])
    chosen = traced(heads, "exact", hidden, logit_bias={unlikely: 100.0})
    assert chosen.token == unlikely
    assert len(chosen.candidates) == CANDIDATES + 1
    assert (chosen.candidates[-1].token, chosen.candidates[-1].rank) == (unlikely, 41)
    assert [each.chosen for each in chosen.candidates] == [False] * CANDIDATES + [True]


def test_a_trace_marks_special_tokens_and_spells_parts_of_characters(heads):
    end, part = 257, 0xE2
    state = rng.normal(size=WIDTH).astype(np.float32)
    written = [each.to_dict() for each in traced(heads, "dense", state, logit_bias={end: 100.0}).candidates]
    assert [each["special"] for each in written if each["chosen"]] == [True]
    assert not any(each["special"] for each in written if each["token"] not in TOKENIZER.special_ids)
    written = [each.to_dict() for each in traced(heads, "dense", state, logit_bias={part: 100.0}).candidates]
    assert [(each["text"], each["bytes"]) for each in written if each["chosen"]] == [("\ufffd", [part])]


def test_nothing_is_traced_unasked(heads):
    chosen = chooser(heads, "exact", GenerationOptions())[0].choose(np.ones(WIDTH, np.float32), 0)
    assert (chosen.candidates, chosen.trace_seconds) == (None, 0.0)


@pytest.mark.parametrize("name", ["dense", "exact", "estimated"])
def test_a_draw_takes_the_threads_of_the_head(heads, name, monkeypatch):
    teams = []

    def spied(function):
        def call(*arguments):
            teams.append(_native.hold_pool(0)[1])
            return function(*arguments)

        return call

    for what in ("sample", "contenders"):
        monkeypatch.setattr(_native, what, spied(getattr(_native, what)))
    monkeypatch.setattr(heads["dense"], "workers", _native.Workers(5))
    options = GenerationOptions(temperature=1.0, seed=3)
    made, _ = chooser(heads, name, options)
    made.choose(np.ones(WIDTH, np.float32), 4)
    assert teams == [5]
    assert _native.hold_pool(0)[1] == _native.threads()
