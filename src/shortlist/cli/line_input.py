"""Messages typed at a prompt: one line, or several."""

import contextlib
import sys
from collections.abc import Callable

from shortlist.errors import UsageError

BLOCK = '"""'


def terminal_reader() -> Callable[[str], str]:
    """A function that shows a prompt and reads one line, with editing and history where a person types.

    It raises EOFError at the end of the input, and UsageError where a line is not UTF-8.
    """
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):  # not on every platform
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
