import gc
import json
import re
import threading
import weakref

import numpy as np
import pytest
from engine.fakes import ByteTokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from shortlist.engine.constraints import JsonSchema, Regex
from shortlist.errors import UsageError

VOCABULARY = 264  # more rows than the tokenizer has tokens
END = 257
TOKENIZER = ByteTokenizer()

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def written(constraint, seed, most=400):
    """The bytes of a random walk along what is allowed, and whether it came to an end."""
    random = np.random.default_rng(seed)
    state, answer = constraint.start(TOKENIZER, VOCABULARY), bytearray()
    for _ in range(most):
        rows = np.flatnonzero(state.allowed())
        token = int(random.choice(rows))
        if token == END:
            return bytes(answer), True
        answer.append(token)
        state.push(token)
    return bytes(answer), False


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.sampled_from([r"[0-9]{2}-[a-c]+", "yes|no", "ä{1,3}/?", r"(a|b)*\\"]))
def test_what_ends_matches_the_expression(seed, pattern):
    answer, ended = written(Regex(pattern), seed)
    assert not ended or re.fullmatch(pattern, answer.decode())
    assert ended or pattern != "yes|no"


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_what_ends_is_json_of_the_schema(seed):
    answer, ended = written(JsonSchema(PERSON), seed)
    if ended:
        person = json.loads(answer)
        assert set(person) == {"name", "age"}
        assert isinstance(person["age"], int)
        assert len(person["name"]) <= 8


def test_special_tokens_and_rows_without_a_token_are_not_text():
    allowed = Regex(".*").start(TOKENIZER, VOCABULARY).allowed()
    assert not allowed[TOKENIZER.bos_id]
    assert not allowed[TOKENIZER.vocab_size :].any()
    assert allowed[END]


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (Regex("(a"), "regular expression cannot be used: .*unclosed group"),
        (Regex("a" * 70_000), "has 70000 characters"),
        (Regex("a\ud800"), "not valid UTF-8 at character 2"),
        (JsonSchema({"type": "objec"}), "JSON schema cannot be used: .*objec"),
        (JsonSchema({"$ref": "#/nowhere"}), "JSON schema cannot be used"),
    ],
)
def test_what_cannot_be_used_says_why(constraint, message):
    with pytest.raises(UsageError, match=message):
        constraint.start(TOKENIZER, VOCABULARY)


def test_a_grammar_may_begin_in_one_thread_and_go_on_in_another():
    state, seen = Regex("ab").start(TOKENIZER, VOCABULARY), []
    thread = threading.Thread(target=lambda: seen.append(np.flatnonzero(state.allowed()).tolist()))
    thread.start()
    thread.join()
    assert seen == [[ord("a")]]


def test_a_vocabulary_lives_no_longer_than_its_tokenizer():
    tokenizer = ByteTokenizer()
    Regex("a").start(tokenizer, VOCABULARY)
    gone = weakref.ref(tokenizer)
    del tokenizer
    gc.collect()
    assert gone() is None
