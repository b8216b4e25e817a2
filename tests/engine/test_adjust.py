import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortlist.engine.adjust import Adjustment
from shortlist.engine.options import SamplingOptions
from shortlist.engine.sampling import sample
from shortlist.errors import UsageError

VOCABULARY = 8
tokens = st.lists(st.integers(0, VOCABULARY - 1), max_size=20)
changes = st.builds(
    SamplingOptions,
    repetition_penalty=st.sampled_from([1.0, 0.5, 1.7]),
    frequency_penalty=st.floats(-2, 2),
    presence_penalty=st.floats(-2, 2),
    logit_bias=st.dictionaries(st.integers(0, VOCABULARY - 1), st.floats(-100, 100)),
)


def adjustment(options, prompt=(), answer=()):
    adjust = Adjustment(options, prompt, VOCABULARY)
    for token in answer:
        adjust.push(token)
    return adjust


def test_repetition_penalty_lowers_both_signs():
    options = SamplingOptions(repetition_penalty=2.0)
    adjust = Adjustment(options, [0], 3)
    assert sample(adjust(np.array([3, 2, 0], dtype=np.float32)), options, 0) == 1
    assert sample(adjust(np.array([-1, -1.5, -3], dtype=np.float32)), options, 0) == 1


@given(changes, tokens, tokens, st.lists(st.floats(-50, 50, width=32), min_size=8, max_size=8))
def test_values_are_those_of_the_formulas(options, prompt, answer, values):
    adjusted = adjustment(options, prompt, answer)(np.array(values, np.float32))
    for token, value in enumerate(values):
        if token in prompt or token in answer:
            value = value / options.repetition_penalty if value > 0 else value * options.repetition_penalty
        value += options.logit_bias.get(token, 0.0)
        value -= options.frequency_penalty * answer.count(token) + options.presence_penalty * (
            token in answer
        )
        assert adjusted[token] == pytest.approx(value, abs=1e-4, rel=1e-5)


@given(changes, tokens, tokens, st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=2), tokens)
def test_order_is_kept_and_single_rows_are_as_all(options, prompt, answer, values, rows):
    adjust = adjustment(options, prompt, answer)
    low, high = (adjust(np.full(VOCABULARY, value, np.float32)) for value in sorted(values))
    assert (low <= high).all()
    rows = np.array(rows, int)
    assert np.array_equal(adjust(np.full(len(rows), max(values), np.float32), rows), high[rows])


def test_nothing_to_do_leaves_the_logits():
    logits = np.arange(VOCABULARY, dtype=np.float32)
    adjust = adjustment(SamplingOptions(), [1, 2], [3])
    assert adjust.changes_nothing
    assert adjust(logits) is logits


def test_a_bias_for_no_token_of_the_vocabulary_is_refused():
    with pytest.raises(UsageError, match="token 8 is not in the vocabulary"):
        adjustment(SamplingOptions(logit_bias={8: 1.0}))
