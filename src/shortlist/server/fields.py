"""What becomes of each field that a client may send.

A field is honoured (the models of `schemas` and `messages` declare it), harmless (it asks for nothing that an
answer could lack, so it is accepted), or refused, unless its value asks for nothing. A field in no list is
refused, and the nearest one is named. `docs/requests.md` prints the lists, and the tests compare them with
the types of OpenAI's client.
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
        The rest of a sentence that begins with the name of the field.
    passes
        Values that ask for nothing, as null does.
    """

    reason: str
    passes: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Lists:
    """Fields of one object that are not honoured.

    Parameters
    ----------
    harmless
        Each with why its value needs no obedience.
    refused
    """

    harmless: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, Refused] = field(default_factory=dict)

    def __or__(self, other: "Lists") -> "Lists":
        return Lists({**self.harmless, **other.harmless}, {**self.refused, **other.refused})

    def honoured(self, given: Mapping[str, Any], known: Collection[str], where: str) -> dict[str, Any]:
        """The fields of an object that are honoured.

        Parameters
        ----------
        given
            The object as the client sent it.
        known
            The names that are honoured.
        where
            What the object is, for messages; empty for the body itself.

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
            400, f"{_place(where)}{name} {refused.reason}", param=name, code="unsupported_parameter"
        )


def same(value: Any, other: Any) -> bool:
    """Whether two values of JSON are the same: true is not 1."""
    return isinstance(value, bool) is isinstance(other, bool) and value == other


def _unknown(name: str, known: Collection[str], where: str) -> ApiError:
    near = difflib.get_close_matches(name.lower(), sorted(known), 1, 0.0)
    hint = f": did you mean {near[0]}?" if near else ""
    message = f"{_place(where)}{name:.100} is not a parameter that is known here{hint}"
    return ApiError(400, message, param=name[:100], code="unknown_parameter")


def _place(where: str) -> str:
    return f"{where}: " if where else ""
