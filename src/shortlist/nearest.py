"""Names that were mistyped: the nearest known one, and options that a function does not have."""

import functools
import inspect
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import ParamSpec, TypeVar

from shortlist.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` for the known name that is most like this one; empty where none is like it."""
    close = get_close_matches(name.lower(), list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def options_checked(function: Callable[P, R]) -> Callable[P, R]:
    """A function that raises `UsageError`, and names the nearest, where an option is unknown.

    Python's own `TypeError` stays for what is wrong about positional arguments.
    """
    known = [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]

    @functools.wraps(function)
    def checked(*arguments: P.args, **options: P.kwargs) -> R:
        for name in options:
            if name not in known:
                meant = did_you_mean(name, known) or f": its options are {', '.join(known)}"
                raise UsageError(f"there is no option {name}{meant}")
        return function(*arguments, **options)

    return checked
