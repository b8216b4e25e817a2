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
