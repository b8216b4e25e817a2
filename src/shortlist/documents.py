"""Reads the documents that the program wrote before: JSON, checked whole against a declared shape before use.

A shape is a `msgspec.Struct`, a dataclass or a plain type such as `dict[str, int]`. Whole numbers must fit in
64 bits whatever the shape, because they may end in native code.
"""

import dataclasses
import json
from typing import Annotated, Any, TypeVar

import msgspec

from shortlist.errors import one_line

T = TypeVar("T")

LARGEST_COUNT = 2**31 - 1
Count = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_COUNT)]
"""A number of things: from 0 to 2**31 - 1."""
Size = Annotated[int, msgspec.Meta(ge=1, le=LARGEST_COUNT)]
"""A size: from 1 to 2**31 - 1."""
Option = Annotated[int, msgspec.Meta(ge=-LARGEST_COUNT, le=LARGEST_COUNT)] | float | str | bool | list | None
"""An option of a method, as JSON holds it."""
Seconds = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
"""A time that something took: above 0."""


class Version(msgspec.Struct):
    """The version of a document, which is read before the rest: a later one may have another shape."""

    version: Count


class DocumentError(ValueError):
    """A document is not JSON, or not of its shape; the message says where, in one line."""


def read(data: bytes | str, shape: type[T]) -> T:
    """The value of a JSON text, as `shape`.

    Raises
    ------
    DocumentError
        It is not JSON, or a value has another type or is out of range.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise DocumentError("it is not JSON") from None
    return check(document, shape)


def check(document: Any, shape: type[T]) -> T:
    """A document that was parsed already, as `shape`; raises as `read`."""
    try:
        _check_leaves(document)
        return msgspec.convert(document, shape)
    except (ValueError, RecursionError) as error:
        raise DocumentError(one_line(error)) from None


def method(options: Any, shape: type[T]) -> T:
    """A method, which is a dataclass, with the options of a document; one that it does not have is refused.

    Raises
    ------
    DocumentError
        An option is unknown, of another type or out of range.
    """
    known = {option.name for option in dataclasses.fields(shape)}  # pyright: ignore[reportArgumentType]
    for name in check(options, dict[str, Any]):
        if name not in known:
            raise DocumentError(f"there is no option {name} (known: {', '.join(sorted(known))})")
    return check(options, shape)


def _check_leaves(value: Any) -> None:
    """Refuse what JSON can spell and the program cannot use: more than 64 bits, and halves of characters."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_leaves(key)
            _check_leaves(item)
    elif isinstance(value, list):
        for item in value:
            _check_leaves(item)
    elif isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise DocumentError(f"the text {value!a:.40} holds half of a character") from None
    elif type(value) is int and not -(2**63) <= value < 2**63:
        raise DocumentError(f"the number {value!s:.40} is out of range")
