"""Quality of heads whose perplexity, agreement and distance can be worked out by hand."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from shortlist.errors import UsageError
from shortlist.measure.quality import compare, log_softmax


@dataclass(frozen=True)
class Read:
    rows: int
    bytes: int


@dataclass(frozen=True)
class Table:
    """A head whose logits are the row of a table that the hidden state [1] names."""

    table: np.ndarray
    read: Read

    def logits(self, hidden):
        return self.table[int(hidden[0])], self.read

    def argmax(self, hidden):
        return int(np.argmax(self.logits(hidden)[0])), self.read

    def exact_rows(self, hidden, indices):
        return DENSE.table[int(hidden[0])][indices]


DENSE = Table(np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], np.float32)), Read(3, 300))
STATES = np.array([[0], [1]], np.float32)
TARGETS = np.array([1, 1])


def test_dense_against_itself():
    quality = compare([(STATES, TARGETS)], DENSE, DENSE, decoder_bytes=1000)
    assert quality.tokens == 2
    assert quality.dense.perplexity == pytest.approx(1 / math.sqrt(0.25 * 0.8))
    assert quality.dense.bytes_per_token == quality.shortlisted.bytes_per_token == 1300
    assert quality.shortlisted.perplexity == quality.dense.perplexity
    assert quality.shortlisted.perplexity_change == quality.shortlisted.perplexity_change_error == 0
    assert quality.shortlisted.agreement == quality.shortlisted.recall == quality.shortlisted.rows_share == 1
    assert quality.shortlisted.total_variation == 0


def test_a_head_that_misses_one_winner_in_two():
    missed = DENSE.table.copy()
    missed[0] = np.log(
        np.array([0.2, 0.4, 0.4], np.float32)
    )  # row 0 is estimated too low, and greedy takes row 1
    shortlisted = Table(missed, Read(1, 40))
    quality = compare(
        [(STATES[:1], TARGETS[:1]), (STATES[1:], TARGETS[1:])], DENSE, shortlisted, 1000
    ).shortlisted
    assert quality.agreement == quality.recall == 0.5
    assert quality.rows_share == pytest.approx(1 / 3)
    assert quality.bytes_per_token == quality.sampling_bytes_per_token == 1040
    assert quality.total_variation == pytest.approx(0.15, rel=1e-6)
    # The target's own value is exact, 0.25; the others stay as they were estimated.
    target = 0.25 / (0.2 + 0.25 + 0.4)
    assert quality.perplexity == pytest.approx(1 / math.sqrt(target * 0.8), rel=1e-6)
    changes = np.array([math.log(0.25 / target), 0.0])
    assert quality.perplexity_change == pytest.approx(math.expm1(changes.mean()), rel=1e-5)
    assert quality.perplexity_change_error == pytest.approx(
        math.exp(changes.mean()) * changes.std() / math.sqrt(2), rel=1e-5
    )


def test_json_has_the_keys_that_are_promised():
    document = compare([(STATES, TARGETS)], DENSE, DENSE, decoder_bytes=0).to_dict()
    assert set(document) == {"tokens", "dense", "shortlisted"}
    assert set(document["dense"]) == {"perplexity", "bytes_per_token"}
    assert set(document["shortlisted"]) >= {
        "perplexity",
        "agreement",
        "recall",
        "rows_share",
        "bytes_per_token",
        "total_variation",
    }


def test_nothing_to_measure_is_said():
    with pytest.raises(UsageError, match="at least two tokens"):
        compare([], DENSE, DENSE, decoder_bytes=0)


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e4])
def test_log_softmax_stands_large_logits(offset):
    logits = np.array([1.0, 2.0, 3.0, -500.0], np.float32) + np.float32(offset)
    logs = log_softmax(logits)
    assert np.isfinite(logs).all()
    assert np.exp(logs.astype(np.float64)).sum() == pytest.approx(1, abs=1e-6)


def test_the_loss_is_that_of_the_targets_exact_value_over_the_estimated_normaliser():
    estimated = DENSE.table.copy()
    estimated[0, 1] = -30.0  # a target that is far underestimated
    shortlisted = Table(estimated, Read(1, 40))
    quality = compare([(STATES[:1], TARGETS[:1])], DENSE, shortlisted, 1000).shortlisted
    assert quality.perplexity == pytest.approx(1 / 0.25)


def test_what_greedy_and_sampled_tokens_read_is_told_apart():
    class Cheap(Table):
        """Reads less where only the greatest is wanted."""

        def argmax(self, hidden):
            return super().argmax(hidden)[0], Read(1, 40)

    found = compare([(STATES, TARGETS)], DENSE, Cheap(DENSE.table, Read(2, 90)), decoder_bytes=1000)
    assert found.shortlisted.bytes_per_token == 1040
    assert found.shortlisted.sampling_bytes_per_token == 1090
    assert found.shortlisted.rows_share == pytest.approx(1 / 3)
    assert found.dense.bytes_per_token == 1300
