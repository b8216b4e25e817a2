"""Reads tables of a configuration file into frozen dataclasses, and checks every key and its type."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from shortlist.errors import UsageError

REST = {"rest": True}
"""Metadata of a field that takes a table's remaining keys; the field's user checks them."""

_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_LISTS = {int: "a list of whole numbers", float: "a list of numbers", str: "a list of texts"}


T = typing.TypeVar("T")


def from_table(cls: type[T], table: Mapping[str, Any], place: str) -> T:
    """Make an instance of a dataclass from a table of a configuration file and its nested tables.

    Parameters
    ----------
    cls
        A dataclass. A default makes a key optional; a field with the metadata `REST` takes the remaining
        keys.
    table
        The table as `tomllib` or `json` reads it.
    place
        Path of the table in the file, for messages.

    Raises
    ------
    UsageError
        A key is unknown, missing or of the wrong type, or the class refuses a value.
    """
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # pyright: ignore[reportArgumentType]
    rest = next((name for name, field in fields.items() if field.metadata == REST), None)
    known = [name for name in fields if name != rest]
    values: dict[str, Any] = {} if rest is None else {rest: {}}
    for key, value in table.items():
        if key in known:
            values[key] = _converted(value, hints[key], f"{place}{key}")
        elif rest is None:
            raise unknown_key(place, key, known)
        else:
            values[rest][key] = value
    for name in known:
        field = fields[name]
        if name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise UsageError(f"{place}{name} is missing: {_wanted(hints[name])} is needed there")
    try:
        return cls(**values)
    except UsageError as error:
        raise UsageError(f"{place}{error}") from None


def to_table(value: Any) -> dict[str, Any]:
    """The table that `from_table` reads back as the same instance; None values are left out."""
    table: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if field.metadata == REST:
            table.update(item)
        elif dataclasses.is_dataclass(item):
            table[field.name] = to_table(item)
        elif item is not None:
            table[field.name] = list(item) if isinstance(item, tuple) else item
    return table


def unknown_key(place: str, key: str, known: Iterable[str]) -> UsageError:
    """The error for a key that does not exist; it names the nearest one that does."""
    return UsageError(f"{place}{key} is not a key that is known: {nearest(key, known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """A suggestion for a name that is not known."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}"


def check_range(key: str, value: float, low: float, high: float | None = None) -> None:
    """Raise `UsageError` unless low <= value <= high."""
    if not low <= value <= (float("inf") if high is None else high):
        limits = f"at least {low}" if high is None else f"from {low} to {high}"
        raise UsageError(f"{key} must be {limits}, not {value}")


def _converted(value: Any, hint: Any, place: str) -> Any:
    """The value, converted to the type `hint` of its field."""
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return from_table(typing.cast(type, hint), value, f"{place}.")
    if isinstance(hint, types.UnionType):
        options = [option for option in typing.get_args(hint) if option is not types.NoneType]
        for option in options:
            if dataclasses.is_dataclass(option) or _fits(value, option):
                return _converted(value, option, place)
    if not _fits(value, hint):
        raise UsageError(f"{place} must be {_wanted(hint)}, not {value!r:.60}")
    if typing.get_origin(hint) is tuple:
        return tuple(value)
    return float(value) if hint is float else value


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return isinstance(value, list) and all(_fits(item, arguments[0]) for item in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_fits(item, arguments[1]) for item in value.values())
    if origin is typing.Literal:
        return value in arguments
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(hint, type) and type(value) is hint


def _wanted(hint: Any) -> str:
    """The name of a type in a message."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return " or ".join(_wanted(option) for option in arguments if option is not types.NoneType)
    if origin is tuple:
        return _LISTS[arguments[0]]
    if origin is typing.Literal:
        return " or ".join(map(repr, arguments))
    return _NAMES.get(hint, "a table")
