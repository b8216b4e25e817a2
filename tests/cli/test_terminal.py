"""The terminal of a chat."""

import io
import os
import pty
import select
import sys
import termios

import pytest

from shortlist.cli import terminal
from shortlist.cli.terminal import (
    PromptProgress,
    WordWrap,
    announce_pastes,
    answer_writer,
    note,
    typing_waits,
)


class Screen:
    """The lines that a terminal shows, which knows newlines, moves to the left and erasing to the right."""

    def __init__(self, width):
        self.width = width
        self.lines = [""]
        self.written = ""

    def write(self, text):
        self.written += text
        while text:
            if text.startswith("\033["):
                end = next(i for i, c in enumerate(text) if c.isalpha())
                if text[end] == "D":
                    self.lines[-1] = self.lines[-1][: -int(text[2:end])]
                text = text[end + 1 :]
            else:
                if text[0] == "\n":
                    self.lines.append("")
                else:
                    self.lines[-1] += text[0]
                    assert len(self.lines[-1]) < self.width
                text = text[1:]


def shown(text, width, pieces=1):
    screen = Screen(width)
    wrap = WordWrap(screen.write, lambda: width)
    for start in range(0, len(text), pieces):
        wrap.add(text[start : start + pieces])
    return screen.lines


@pytest.mark.parametrize("pieces", [1, 3, 100])
@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("the cat sat", ["the cat", "sat"]),
        ("the cats are", ["the cats", "are"]),
        ("the catsxy a", ["the", "catsxy a"]),
        ("the catsxyz a", ["the", "catsxyz", "a"]),
        ("a\n\nb c", ["a", "", "b c"]),
        ("  indented", ["  ", "indented"]),
        ("unbreakable", ["unbreaka", "ble"]),
        ("a unbreakable", ["a", "unbreaka", "ble"]),
        ("12345678", ["12345678"]),
        ("12345678 9", ["12345678", "9"]),
    ],
)
def test_lines_break_between_words(text, lines, pieces):
    found = [line.rstrip() for line in shown(text, 9, pieces)]
    assert found == [line.rstrip() for line in lines]


def test_wide_characters_break_anywhere():
    screen = []
    WordWrap(screen.append, lambda: 8).add("海海海海")
    assert "".join(screen) == "海海海\n海"


def test_a_tab_reaches_the_next_stop():
    screen = []
    WordWrap(screen.append, lambda: 11).add("a\tbcd e")
    assert "".join(screen).replace("\033[2D\033[K", "") == "a\tbc\nbcd e"


def test_nothing_is_broken_where_the_output_is_no_terminal(capsys):
    write = answer_writer()
    write("word " * 100)
    announce_pastes()
    assert capsys.readouterr().out == "word " * 100


@pytest.fixture
def keyboard(monkeypatch):
    """A terminal at standard input; yields the other end of it."""
    other, own = pty.openpty()
    with open(own, closefd=False) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield other
    os.close(other)
    os.close(own)


def test_typing_waits_unseen_and_is_there_afterwards(keyboard):
    before = termios.tcgetattr(sys.stdin.fileno())
    with typing_waits():
        os.write(keyboard, b"ahead\n")
        select.select([sys.stdin], [], [], 10)
    assert termios.tcgetattr(sys.stdin.fileno()) == before
    assert os.read(sys.stdin.fileno(), 100) == b"ahead\n"
    os.set_blocking(keyboard, False)
    with pytest.raises(BlockingIOError):  # nothing was echoed
        os.read(keyboard, 100)


def test_typing_waits_through_an_error(keyboard):
    before = termios.tcgetattr(sys.stdin.fileno())

    def interrupted():
        with typing_waits():
            during.extend(termios.tcgetattr(sys.stdin.fileno()))
            raise KeyboardInterrupt

    during = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert termios.tcgetattr(sys.stdin.fileno()) == before
    assert not during[3] & (termios.ECHO | termios.ICANON)
    assert during[3] & termios.ISIG, "Ctrl-C stops an answer"
    assert during[3] & termios.NOFLSH, "and leaves alone what was typed"


def test_without_a_terminal_there_is_nothing_to_wait(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("x"))
    with typing_waits():
        assert sys.stdin.read() == "x"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_long_prompt_shows_progress():
    now = iter([0.0, 0.9, 1.1, 2.0])
    stream = Terminal()
    progress = PromptProgress(stream, clock=lambda: next(now))
    progress(256, 1000)
    assert stream.getvalue() == "", "not yet"
    progress(512, 1000)
    assert stream.getvalue().endswith("reading the prompt: 512 of 1000 tokens")
    progress(1000, 1000)
    assert stream.getvalue().endswith("\r\033[K")
    length = len(stream.getvalue())
    progress.clear()
    assert len(stream.getvalue()) == length, "once is enough"


def test_progress_is_for_terminals():
    stream = io.StringIO()
    progress = PromptProgress(stream, clock=iter([0.0, 100.0]).__next__)
    progress(1, 1000)
    progress.clear()
    assert stream.getvalue() == ""


def test_pastes_are_announced_to_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    announce_pastes()
    announce_pastes(False)
    assert sys.stdout.getvalue() == terminal.ANNOUNCE_PASTES + terminal.NO_PASTES


def test_a_note_breaks_between_words_on_a_terminal_alone(monkeypatch):
    for stream, lines in ((Terminal(), 2), (io.StringIO(), 1)):
        monkeypatch.setenv("COLUMNS", "30")
        monkeypatch.setattr(sys, "stderr", stream)
        note("a line of words that is longer than 30 columns")
        assert stream.getvalue().count("\n") == lines
        said = " ".join(stream.getvalue().split())
        assert said == "shortlist: a line of words that is longer than 30 columns"
