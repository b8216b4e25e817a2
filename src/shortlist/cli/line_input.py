"""Reads messages typed or pasted at a prompt, of one line or several."""

import contextlib
import sys
from collections.abc import Callable
from typing import Any

from shortlist.errors import UsageError

BLOCK = '"""'


def message_reader() -> Callable[[], str]:
    """Make a function that asks for one message.

    It raises EOFError at the end of the input, KeyboardInterrupt on Ctrl-C, and UsageError where a line is
    not UTF-8.
    """
    if sys.stdin.isatty() and sys.stdout.isatty():
        return TerminalReader()
    read_line = line_reader()
    return lambda: read_message(read_line)


class TerminalReader:
    """Asks for messages on a terminal, with editing and history. A paste is one message, however many lines.

    Parameters
    ----------
    **streams
        `input` and `output` of prompt_toolkit; else the terminal.
    """

    def __init__(self, **streams: Any):
        from prompt_toolkit import PromptSession

        self._pasted = False
        self._session: PromptSession[str] = PromptSession(
            "> ", multiline=True, prompt_continuation=". ", key_bindings=self._keys(), **streams
        )

    def __call__(self) -> str:
        self._pasted = False
        text = self._session.prompt()
        return text.strip("\n") if self._pasted else as_message(text)

    def _keys(self) -> Any:
        from prompt_toolkit.key_binding import KeyBindings
        from prompt_toolkit.keys import Keys

        keys = KeyBindings()

        @keys.add(Keys.Enter)
        def _(event: Any) -> None:
            buffer = event.current_buffer
            if not self._pasted and is_unfinished(buffer.text):
                buffer.insert_text("\n")
            else:
                buffer.validate_and_handle()

        @keys.add(Keys.BracketedPaste)
        def _(event: Any) -> None:
            text = event.data.replace("\r\n", "\n").replace("\r", "\n")
            self._pasted = self._pasted or "\n" in text
            event.current_buffer.insert_text(text)

        @keys.add(Keys.ControlC)
        def _(event: Any) -> None:
            if event.current_buffer.text:
                self._pasted = False
                event.current_buffer.reset()
            else:
                event.app.exit(exception=KeyboardInterrupt())

        return keys


def line_reader() -> Callable[[str], str]:
    """Make a function that shows a prompt on a terminal and reads one line."""
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):  # readline is not on every platform
            import readline  # noqa: F401  gives input() editing and history
        return input

    def read(_prompt: str) -> str:
        try:
            line = sys.stdin.readline()
            line.encode()
        except UnicodeError:
            raise UsageError(
                "standard input is not valid UTF-8: convert it, for example with iconv"
            ) from None
        if not line:
            raise EOFError
        return line.removesuffix("\n")

    return read


def is_unfinished(text: str) -> bool:
    r"""Whether a typed message goes on in the next line: after \\, or between \"\"\" and \"\"\"."""
    start = text.lstrip()
    if start.startswith(BLOCK):
        return not start.removeprefix(BLOCK).rstrip().endswith(BLOCK)
    return text.endswith("\\")


def as_message(text: str) -> str:
    """Join typed lines to a message."""
    lines = iter(text.split("\n"))

    def read(_prompt: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    return read_message(read)


def read_message(read_line: Callable[[str], str]) -> str:
    r"""One message: a line, lines that end in \\, or everything between \"\"\" and \"\"\".

    The end of the input ends a message of several lines as well.

    Raises
    ------
    EOFError
        There is no further message.
    """
    line = read_line("> ")
    if line.lstrip().startswith(BLOCK):
        return _read_block(line.lstrip().removeprefix(BLOCK), read_line)
    lines = [line]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1].removesuffix("\\")
        try:
            lines.append(read_line(". "))
        except EOFError:
            break
    return "\n".join(lines)


def _read_block(first: str, read_line: Callable[[str], str]) -> str:
    lines = [first]
    while not lines[-1].rstrip().endswith(BLOCK):
        try:
            lines.append(read_line(". "))
        except EOFError:
            break
    lines[-1] = lines[-1].rstrip().removesuffix(BLOCK)
    return "\n".join(lines).strip("\n")
