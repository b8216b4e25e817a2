"""Log-probabilities by the definition of the softmax."""

import math

import numpy as np
import pytest
from engine.fakes import ByteTokenizer

from shortlist.engine.logprobs import TokenLogprob, token_logprobs

LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3])).astype(np.float32) + 7


def told(token, count, logits=LOGITS):
    return token_logprobs(logits, token, count, ByteTokenizer())


def test_the_chosen_token_and_the_likeliest_in_their_order():
    found = told(2, 3)
    assert (found.chosen.token, found.chosen.text) == (2, b"\x02")
    assert found.chosen.logprob == pytest.approx(math.log(0.2), abs=1e-6)
    assert [entry.token for entry in found.top] == [1, 3, 2]
    assert [math.exp(entry.logprob) for entry in found.top] == pytest.approx([0.4, 0.3, 0.2], abs=1e-6)


def test_none_of_the_likeliest_are_listed_where_none_are_asked_for():
    assert told(0, 0).top == ()
    assert len(told(0, 4).top) == 4


def test_logits_of_any_size_do_not_overflow():
    found = told(1, 1, np.array([3e38, 3e38, 0.0], np.float32))
    assert found.chosen.logprob == pytest.approx(math.log(0.5))


def test_what_json_tells():
    entry = TokenLogprob(5, b"a\xff", -0.5)
    assert entry.to_dict() == {"token": 5, "text": "a\ufffd", "bytes": [97, 255], "logprob": -0.5}
    found = told(1, 2)
    assert found.to_dict() == {
        **found.chosen.to_dict(),
        "top": [found.top[0].to_dict(), found.top[1].to_dict()],
    }
