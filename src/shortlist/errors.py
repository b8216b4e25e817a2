"""Errors that a user can act on: each message names the user's object and the next step.

Everything here derives from `ShortlistError`; the command line prints the message as one line and exits
with `exit_code`. Anything else that escapes is a defect of ours and keeps its traceback.
"""


def one_line(message: object) -> str:
    """A message as one printable line: names and values in it may hold newlines and control characters.

    Lines are joined by a space; what no terminal should obey, and what no encoder takes, is spelled as an
    escape.
    """
    text = " ".join(line.strip() for line in str(message).splitlines() if line.strip())
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class ShortlistError(Exception):
    """The work failed for a reason outside the program. Its message is one line, whatever went into it."""

    exit_code = 1

    def __init__(self, message: object = ""):
        super().__init__(one_line(message))


class UsageError(ShortlistError, ValueError):
    """The request itself is wrong: a bad argument, an empty prompt, a value out of range."""

    exit_code = 2


class CheckpointError(ShortlistError):
    """A model file is damaged, unsupported or contradicts itself."""


class DownloadError(ShortlistError):
    """A model could not be fetched, or what arrived is not what was asked for."""


class RecipeError(ShortlistError):
    """A recipe cannot be used: damaged, of another checkpoint, or from a newer version."""
