"""Errors that a user can act on: each message names the user's object and the next step.

Everything here derives from `ShortlistError`; the command line prints the message as one line and exits
with `exit_code`. Anything else that escapes is a defect of ours and keeps its traceback.
"""


class ShortlistError(Exception):
    """The work failed for a reason outside the program."""

    exit_code = 1


class UsageError(ShortlistError, ValueError):
    """The request itself is wrong: a bad argument, an empty prompt, a value out of range."""

    exit_code = 2


class CheckpointError(ShortlistError):
    """A model file is damaged, unsupported or contradicts itself."""


class DownloadError(ShortlistError):
    """A model could not be fetched, or what arrived is not what was asked for."""


class RecipeError(ShortlistError):
    """A recipe cannot be used: damaged, of another checkpoint, or from a newer version."""
