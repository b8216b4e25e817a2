"""Sorts the fields of a request: honoured, harmless, refused or unknown.

The models of `schemas` and `messages` declare the honoured fields. A harmless field is accepted and ignored,
because ignoring it changes no answer. A refused field is an error, unless its value asks for nothing. A field
in no list is an error that names the nearest field. `docs/requests.md` prints the lists, and the tests
compare them with the types of OpenAI's client.
"""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from shortlist.server.errors import ApiError


@dataclass(frozen=True)
class Refused:
    """A field whose values are refused.

    Parameters
    ----------
    reason
        The rest of a sentence that starts with the field's name.
    passes
        Values that ask for nothing, like null, and are accepted.
    """

    reason: str
    passes: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Lists:
    """The fields of one object that are not honoured.

    Parameters
    ----------
    harmless
        Harmless fields, each with the reason why it can be ignored.
    refused
    """

    harmless: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, Refused] = field(default_factory=dict)

    def __or__(self, other: "Lists") -> "Lists":
        return Lists({**self.harmless, **other.harmless}, {**self.refused, **other.refused})

    def honoured(self, given: Mapping[str, Any], known: Collection[str], where: str) -> dict[str, Any]:
        """Check the fields of an object, and return the honoured ones.

        Parameters
        ----------
        given
            The object that the client sent.
        known
            Names of the honoured fields.
        where
            Name of the object in messages; empty for the body itself.

        Raises
        ------
        ApiError
            A field is refused, or unknown.
        """
        kept = {}
        for name, value in given.items():
            if name in known:
                kept[name] = value
            elif name in self.refused:
                self._check(name, value, where)
            elif name not in self.harmless:
                raise _unknown(name, known, where)
        return kept

    def _check(self, name: str, value: Any, where: str) -> None:
        refused = self.refused[name]
        if value is None or any(same(value, passed) for passed in refused.passes):
            return
        raise ApiError(
            400, f"{_prefix(where)}{name} {refused.reason}", param=name, code="unsupported_parameter"
        )


def same(value: Any, other: Any) -> bool:
    """Whether two JSON values are equal; true differs from 1."""
    return isinstance(value, bool) is isinstance(other, bool) and value == other


def _unknown(name: str, known: Collection[str], where: str) -> ApiError:
    near = difflib.get_close_matches(name.lower(), sorted(known), 1, 0.0)
    hint = f": did you mean {near[0]}?" if near else ""
    message = f"{_prefix(where)}{name:.100} is not a parameter that is known here{hint}"
    return ApiError(400, message, param=name[:100], code="unknown_parameter")


def _prefix(where: str) -> str:
    return f"{where}: " if where else ""
