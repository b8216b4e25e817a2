import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortlist.engine.stop import StopMatcher

# Two letters, so that stop strings overlap the text and each other.
texts = st.text("ab", max_size=30)
stop_lists = st.lists(st.text("ab", min_size=1, max_size=5), max_size=4)


def first_stop(text, stops):
    """Where the text ends: the start of the longest stop string among those that are complete first."""
    for end in range(len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return end - max(map(len, complete))
    return None


@pytest.mark.parametrize(
    ("stops", "text", "passed"),
    [
        (["ab", "b"], "ab", ""),  # of those that end together the longest
        (["b", "ab"], "aab", "a"),
        (["abc", "b"], "xabc", "xa"),  # the one that is complete first
        (["aab"], "aaab", "a"),
        (["abab", "ba"], "aaba", "aa"),
        (["abcd", "bc"], "abcd", "a"),
        (["a", "a"], "ba", "b"),
        (["abab"], "abaabab", "aba"),
        ([], "ab", "ab"),
    ],
)
def test_where_a_text_stops(stops, text, passed):
    for pieces in ([text], list(text)):
        matcher = StopMatcher(stops)
        assert "".join(map(matcher.push, pieces)) == passed
        assert matcher.stopped == bool(stops)
        assert matcher.push("more") == ("" if stops else "more")
        assert matcher.flush() == ""


def test_hidden_text_is_matched_but_not_passed():
    matcher = StopMatcher(["</s>\nUser", "<|user|>"])
    assert matcher.push("a") == "a"
    assert matcher.push("</s>", shown=False) == ""
    assert matcher.push("\nUs") == ""
    assert matcher.push("ing<") == "\nUsing"
    assert matcher.flush() == "<"
    assert matcher.push("</s>\n", shown=False) + matcher.push("b") == "b"
    assert matcher.push("c|") + matcher.push("<|user|>", shown=False) + matcher.push("d") == "c|"
    assert matcher.stopped


def test_what_is_flushed_begins_no_stop_string():
    matcher = StopMatcher(["ab"])
    assert matcher.push("a") == ""
    assert matcher.flush() == "a"
    assert matcher.push("b") == "b"


def test_many_stop_strings_cost_no_more_than_few():
    matcher = StopMatcher(["a" * 50 + str(n) for n in range(20_000)])
    start = time.process_time()
    assert matcher.push("a" * 20_000) == "a" * 19_950
    assert time.process_time() - start < 5  # 0.02 s; each of them on its own would take minutes


@given(texts, stop_lists, st.data())
def test_pieces_give_the_text_before_the_first_stop(text, stops, data):
    matcher = StopMatcher(stops)
    passed, rest = "", text
    while rest and not matcher.stopped:
        size = data.draw(st.integers(1, len(rest)))
        passed += matcher.push(rest[:size])
        rest = rest[size:]
        # What was passed can no longer be part of a stop string, and no more than that is held back.
        assert len(text) - len(rest) - len(passed) < max(map(len, stops), default=1) or matcher.stopped
    passed += "" if matcher.stopped else matcher.flush()

    end = first_stop(text, stops)
    assert matcher.stopped == (end is not None)
    assert passed == text[:end]


def test_text_that_cannot_become_a_stop_is_passed_at_once():
    matcher = StopMatcher(["\n\n", "END"])
    assert matcher.push("one\n") == "one"
    assert matcher.push("two E") == "\ntwo "
    assert matcher.push("N") == ""
    assert matcher.push("X") == "ENX"
    assert matcher.flush() == ""
