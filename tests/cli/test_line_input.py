"""One message from a prompt: typed in one line or many, or pasted."""

import pytest
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from shortlist.cli.line_input import TerminalReader, as_message, is_unfinished, read_message

PASTE = "\033[200~{}\033[201~"

MESSAGES = [
    (["hello"], "hello"),
    (["one \\", "two\\", "three"], "one \ntwo\nthree"),
    (['"""', "one", "  two", '"""'], "one\n  two"),
    (['"""one', 'two"""'], "one\ntwo"),
    (['"""one"""'], "one"),
    (['"""', "a \\", "/quit", '"""'], "a \\\n/quit"),
    (["one\\"], "one"),
    (['"""', "one"], "one"),
]


def typed(*lines):
    waiting = list(lines)

    def read(_prompt):
        if not waiting:
            raise EOFError
        return waiting.pop(0)

    return read


@pytest.mark.parametrize(("lines", "message"), MESSAGES)
def test_a_message_has_one_line_or_many(lines, message):
    assert read_message(typed(*lines)) == message
    assert as_message("\n".join(lines)) == message


def test_the_end_of_the_input_is_no_message():
    with pytest.raises(EOFError):
        read_message(typed())


@pytest.mark.parametrize(
    ("text", "unfinished"),
    [
        ("hello", False),
        ("hello\\", True),
        ("one\\\ntwo", False),
        ('"""', True),
        ('  """one\ntwo', True),
        ('"""one"""', False),
        ('"""one\n""" ', False),
        ('say """', False),
    ],
)
def test_where_a_message_goes_on(text, unfinished):
    assert is_unfinished(text) == unfinished


def ask(keys, times=1):
    with create_pipe_input() as pipe:
        reader = TerminalReader(input=pipe, output=DummyOutput())
        pipe.send_text(keys)
        answers = [reader() for _ in range(times)]
    return answers if times > 1 else answers[0]


@pytest.mark.parametrize("newline", ["\r", "\n", "\r\n"])
def test_a_paste_of_many_lines_is_one_message(newline):
    lines = [f"  line {i}\\" for i in range(50)]
    assert ask(PASTE.format(newline.join([*lines, ""])) + "\r") == "\n".join(lines)


def test_a_paste_among_typing_and_one_that_looks_like_a_block():
    assert ask("see: " + PASTE.format("a\nb") + "!\r") == "see: a\nb!"
    assert ask(PASTE.format('"""Docs."""\nx = 1') + "\r") == '"""Docs."""\nx = 1'
    assert ask(PASTE.format("one line") + "\\\rmore\r") == "one line\nmore", "which is like typing"


@pytest.mark.parametrize(("lines", "message"), MESSAGES[:6])
def test_typed_lines(lines, message):
    assert ask("\r".join([*lines, ""])) == message


def test_what_was_typed_ahead_is_the_next_message():
    assert ask("first\nsecond\n", times=2) == ["first", "second"]


def test_a_paste_leaves_the_next_message_alone():
    assert ask(PASTE.format("a\nb") + "\rtwo\\\rlines\r", times=2) == ["a\nb", "two\nlines"]


def test_ctrl_c_clears_what_is_typed_and_leaves_where_nothing_is():
    assert ask("wrong\003right\r") == "right"
    assert ask(PASTE.format("a\nb") + "\003two\\\rlines\r") == "two\nlines"
    with pytest.raises(KeyboardInterrupt):
        ask("\003")


def test_ctrl_d_leaves():
    with pytest.raises(EOFError):
        ask("\004")
