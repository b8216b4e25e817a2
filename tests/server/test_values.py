import pytest
from pydantic import TypeAdapter, ValidationError

from shortlist.server.values import (
    MAX_PROMPTS,
    MAX_STOP_CHARACTERS,
    MAX_STOPS,
    Stops,
    TextsOrTokens,
    Token,
    Whole,
)


def read(kind, value):
    return TypeAdapter(kind).validate_python(value, strict=True)


def refused(kind, value):
    with pytest.raises(ValidationError) as raised:
        read(kind, value)
    return raised.value.errors()[0]["msg"]


@pytest.mark.parametrize(("given", "value"), [(8, 8), (8.0, 8), (-1.0, -1), (2**63, 2**63)])
def test_whole_numbers_may_have_a_point(given, value):
    got = read(Whole, given)
    assert got == value
    assert type(got) is int


@pytest.mark.parametrize("given", [8.5, True, False, "8", None, float("inf"), float("nan")])
def test_what_is_no_whole_number(given):
    refused(Whole, given)


def test_the_range_of_tokens():
    assert [read(Token, each) for each in (0, 2**31 - 1)] == [0, 2**31 - 1]
    refused(Token, -1)
    refused(Token, 2**31)


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ("a", ["a"]),
        ("", [""]),
        (["a", "b"], ["a", "b"]),
        ([1, 2.0], [[1, 2]]),
        ([0, 2**31 - 1], [[0, 2**31 - 1]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
        (["a"] * MAX_PROMPTS, ["a"] * MAX_PROMPTS),
        ([1] * 5000, [[1] * 5000]),
    ],
)
def test_texts_or_tokens_one_or_several(given, texts):
    assert read(TextsOrTokens, given) == texts


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (5, "should be a text, a list of texts"),
        (None, "should be a text, a list of texts"),
        ({}, "should be a text, a list of texts"),
        ([], "is an empty list"),
        ([[]], "[0] is an empty list of tokens"),
        ([[1], []], "[1] is an empty list of tokens"),
        (["a", 1], "[1] is not what the first one is"),
        (["a", ["b"]], "[1] is not what the first one is"),
        ([[1], "a"], "[1] is not what the first one is"),
        ([1, "a"], "[1] is not a token"),
        ([[1], [2, -1]], "[1][1] is not a token"),
        ([-1], "[0] is not a token"),
        ([2**31], "[0] is not a token"),
        ([1, True], "[1] is not a token"),
        ([True], "[0] is not a token"),
        ([1.5], "[0] is not a token"),
        ([None], "[0] is not"),
        (["a"] * (MAX_PROMPTS + 1), "holds 2049 texts: at most 2048"),
    ],
)
def test_the_member_that_was_meant_is_told(given, message):
    assert message in refused(TextsOrTokens, given)


@pytest.mark.parametrize(
    ("given", "stops"),
    [
        (None, None),
        ("", []),
        ("a", ["a"]),
        (["", "a", ""], ["a"]),
        ([], []),
        (["a"] * MAX_STOPS, ["a"] * MAX_STOPS),
        (["a" * MAX_STOP_CHARACTERS], ["a" * MAX_STOP_CHARACTERS]),
    ],
)
def test_stop_strings(given, stops):
    assert read(Stops, given) == stops


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (5, "should be a text or a list of texts"),
        (["a", 5], "should be a text or a list of texts"),
        (["a"] * (MAX_STOPS + 1), "holds 1025 texts"),
        (["a" * MAX_STOP_CHARACTERS, "b"], "holds 16385 characters"),
    ],
)
def test_what_are_no_stop_strings(given, message):
    assert message in refused(Stops, given)
