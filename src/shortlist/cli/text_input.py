"""Reads text from outside: a prompt on standard input, or a text file."""

import fcntl
import os
import stat
import sys
import termios
from array import array
from pathlib import Path

from shortlist.errors import UsageError


def read_prompt(prompt: str | None) -> str:
    """The prompt of a command. `-`, or no prompt while input is piped in, reads standard input.

    One newline at the end of standard input is dropped, because `echo` adds one. Text on standard input in
    addition to a prompt is an error.

    Raises
    ------
    UsageError
        There is no prompt, or two; or it is empty or not UTF-8.
    """
    if prompt not in (None, "-") and _text_waits():
        raise UsageError(
            "there are two prompts, one on standard input: leave one out, or add </dev/null where standard "
            "input is meant for others"
        )
    if prompt is None and sys.stdin.isatty():
        raise UsageError('there is no prompt: give one, as in shortlist run MODEL "Once upon a time"')
    if prompt is None or prompt == "-":
        prompt = decode(sys.stdin.buffer.read(), "standard input").removesuffix("\n")
    if not prompt:
        raise UsageError("the prompt is empty: give the model some text to continue")
    return prompt


def _text_waits() -> bool:
    """Whether standard input is a file or pipe that holds text."""
    try:
        source = sys.stdin.fileno()
        kind = os.fstat(source).st_mode
        if stat.S_ISREG(kind):
            return os.fstat(source).st_size > os.lseek(source, 0, os.SEEK_CUR)
        if not (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)):
            return False
        count = array("i", [0])
        fcntl.ioctl(source, termios.FIONREAD, count)
        return count[0] > 0
    except (OSError, ValueError):  # closed, or no file
        return False


def read_text(path: str) -> str:
    """Read a text file.

    Raises
    ------
    UsageError
        The file cannot be read, or is not UTF-8.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    return decode(data, path)


def decode(data: bytes, source: str) -> str:
    """Decode UTF-8.

    Raises
    ------
    UsageError
        The data is not UTF-8; the message names `source` and the byte.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{source} is not valid UTF-8 (byte {error.start + 1}): convert it, for example with iconv"
        ) from None
