"""The strip over a decoder that is nothing but a table: token t has the hidden state t."""

from types import SimpleNamespace

import numpy as np
import pytest

from shortlist.report.speed import Variant
from shortlist.report.strip import CANDIDATES, measure_strip

LOGITS = np.log(np.array([[1, 2, 4, 8, 1], [8, 4, 2, 1, 1], [1, 1, 1, 1, 12]], np.float32))


class TableDecoder:
    def new_cache(self, capacity):
        return None

    def forward(self, tokens, cache):
        return np.asarray(tokens, np.float32)[:, None]


class TableHead:
    """Logits of the hidden state's row; `argmax` takes the best of the tokens allowed."""

    def __init__(self, allowed):
        self.allowed = allowed

    def logits(self, hidden):
        return LOGITS[int(hidden[0])], None

    def argmax(self, hidden):
        row = LOGITS[int(hidden[0])]
        return max(self.allowed, key=lambda token: row[token]), SimpleNamespace(rows=len(self.allowed))


class Letters:
    def token_bytes(self, token):
        return [b"a", b"b", b"c", b"\xff", b"e"][token]


@pytest.fixture
def strip():
    shares = []
    shortlisted, dense = (Variant(TableDecoder(), TableHead(allowed)) for allowed in ([0, 2, 4], range(5)))
    tokens = measure_strip(
        shortlisted, dense, Letters(), [], [0, 1, 2, 2], lambda _, share: shares.append(share)
    )
    assert shares[-1] == 0.75
    return tokens


def test_there_is_an_entry_for_each_token_that_is_predicted(strip):
    assert [token["text"] for token in strip] == ["b", "c", "c"]
    assert [token["rows"] for token in strip] == [3, 3, 3]


def test_the_choice_stands_with_its_rank_among_all(strip):
    assert [token["chose"] for token in strip] == ["c", "a", "e"]
    assert [token["dense_rank"] for token in strip] == [2, 1, 1]


def test_candidates_are_the_dense_model_s_likeliest(strip):
    texts, probabilities = zip(*strip[0]["candidates"], strict=True)
    assert len(texts) == CANDIDATES == 5
    assert texts[:3] == ("\ufffd", "c", "b")
    assert probabilities[:3] == pytest.approx((8 / 16, 4 / 16, 2 / 16))
