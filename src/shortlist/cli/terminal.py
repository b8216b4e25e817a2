"""The terminal of a chat: word wrap, typing ahead, and the progress of a long prompt."""

import io
import shutil
import sys
import termios
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TextIO

ANNOUNCE_PASTES, NO_PASTES = "\033[?2004h", "\033[?2004l"
TAB = 8
PATIENCE = 1.0
"""Seconds of prefill after which its progress is shown."""


class WordWrap:
    """Writes a text piece by piece, and moves a word that does not fit to the next line.

    Parameters
    ----------
    write
        Takes text for a terminal.
    width
        Returns the columns of the terminal; called each time, because windows change.
    """

    def __init__(self, write: Callable[[str], object], width: Callable[[], int]):
        self._write, self._width = write, width
        self._column = 0
        self._word = ""  # on this line, without the space before it

    def add(self, text: str) -> None:
        """Write the next piece."""
        from rich.cells import cell_len

        # The last column stays free: in it, terminals differ in where the cursor is.
        edge = max(self._width() - 1, 1)
        out: list[str] = []
        for character in text:
            cells = TAB - self._column % TAB if character == "\t" else cell_len(character)
            if character == "\n":
                out.append("\n")
                self._column, self._word = 0, ""
            elif character.isspace():
                self._word = ""
                if self._column + cells > edge:
                    out.append("\n")
                    self._column = 0
                else:
                    out.append(character)
                    self._column += cells
            else:
                if self._column + cells > edge:
                    out.append(self._broken(edge - cells, cell_len(self._word)))
                out.append(character)
                self._column += cells
                # Scripts with wide characters may be cut between any two of them.
                self._word = "" if cells > 1 else self._word + character
        self._write("".join(out))

    def _broken(self, room: int, cells: int) -> str:
        """The output that moves a word to the next line, or breaks it if it is longer than a line."""
        if not 0 < cells < min(self._column, room + 1):
            self._column, self._word = 0, ""
            return "\n"
        self._column = cells
        return f"\033[{cells}D\033[K\n{self._word}"


def answer_writer() -> Callable[[str], None]:
    """Make the function that writes an answer to standard output, with word wrap on a terminal."""

    def write(text: str) -> None:
        print(text, end="", flush=True)

    return WordWrap(write, lambda: shutil.get_terminal_size().columns).add if sys.stdout.isatty() else write


@contextmanager
def typing_waits() -> Iterator[None]:
    """Keep typed text for the next prompt while an answer is written: it is neither shown nor lost.

    Has no effect where standard input is no terminal.
    """
    try:
        keyboard = sys.stdin.fileno()
        before = termios.tcgetattr(keyboard)
    except (termios.error, ValueError, io.UnsupportedOperation):
        yield
        return
    waiting = termios.tcgetattr(keyboard)
    # Character mode: in line mode, a terminal drops text beyond its longest line.
    waiting[3] = waiting[3] & ~(termios.ECHO | termios.ICANON) | termios.NOFLSH
    termios.tcsetattr(keyboard, termios.TCSADRAIN, waiting)
    try:
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
        announce_pastes(False)


def announce_pastes(wanted: bool = True) -> None:
    """Ask the terminal to mark where a paste begins and ends, so that its lines stay together."""
    if sys.stdout.isatty():
        print(ANNOUNCE_PASTES if wanted else NO_PASTES, end="", flush=True)


class PromptProgress:
    """Shows the progress of a long prompt on a terminal; call it with the tokens read and the total."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = monotonic):
        self._stream, self._clock = stream or sys.stderr, clock
        self._start = clock()
        self._shown = False

    def __call__(self, read: int, total: int) -> None:
        if not self._stream.isatty():
            return
        if read < total and self._clock() - self._start > PATIENCE:
            self._shown = True
            print(
                f"\r\033[Kreading the prompt: {read} of {total} tokens", end="", file=self._stream, flush=True
            )
        elif self._shown and read >= total:
            self.clear()

    def clear(self) -> None:
        """Remove the progress line."""
        if self._shown:
            self._shown = False
            print("\r\033[K", end="", file=self._stream, flush=True)


def note(text: str) -> None:
    """Print a line beside the result, on standard error, with word wrap on a terminal."""
    line = f"shortlist: {text}"
    if sys.stderr.isatty():
        columns = shutil.get_terminal_size().columns
        line = textwrap.fill(line, max(columns, 20), break_long_words=False, break_on_hyphens=False)
    print(line, file=sys.stderr)
