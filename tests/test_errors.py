"""Every message of an error is one printable line, whatever names and values went into it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shortlist import errors
from shortlist.errors import ShortlistError, UsageError, one_line


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("a  b.gguf cannot be read", "a  b.gguf cannot be read"),
        ("a\nb\r\n\n  c", "a b c"),
        ("red \x1b[31m text\x00", r"red \x1b[31m text\x00"),
        ("half \ud800 of it", r"half \ud800 of it"),
        ("Ünïcode 模型", "Ünïcode 模型"),
        (OSError("no\nroom"), "no room"),
        ("", ""),
    ],
)
def test_message_becomes_one_line(message, line):
    assert one_line(message) == line


@given(st.text(st.characters()))
@example("\x0b\x0c\x85\u2028\u2029\ud800\n")
def test_any_text_becomes_one_printable_line(text):
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert line.isprintable()
    line.encode()


@pytest.mark.parametrize(
    "kind", [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, ShortlistError)]
)
def test_every_error_has_one_line_and_its_code(kind):
    error = kind("model\nwith a newline: pull it again")
    assert str(error) == "model with a newline: pull it again"
    assert error.exit_code == (2 if issubclass(kind, UsageError) else 1)
