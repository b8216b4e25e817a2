"""Tools: the offered functions, the constraint for a forced call, and the parsing of calls in answers."""

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import BeforeValidator, Field

from shortlist.engine.constraints import JsonSchema
from shortlist.server import field_lists
from shortlist.server.errors import ApiError
from shortlist.server.values import Checked, invalid

NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}


class Function(Checked):
    """A function that the model may call."""

    lists: ClassVar = field_lists.FUNCTION
    what: ClassVar = "tools.function"

    name: str = Field(pattern=r"^[a-zA-Z0-9_.\-]{1,128}$")
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="A JSON schema; null: no arguments.")


class Tool(Checked):
    """A tool that the model may use."""

    lists: ClassVar = field_lists.TOOL
    what: ClassVar = "tools"

    type: Literal["function"] = "function"
    function: Function

    def plain(self) -> dict[str, Any]:
        """The form for chat templates."""
        function = self.function.model_dump(exclude_none=True)
        return {"type": "function", "function": {"parameters": NO_ARGUMENTS, **function}}


class Named(Checked):
    """The name of a function."""

    what: ClassVar = "tool_choice.function"

    name: str


class NamedChoice(Checked):
    """The function that the model must call."""

    lists: ClassVar = field_lists.TOOL_CHOICE
    what: ClassVar = "tool_choice"

    type: Literal["function"] = "function"
    function: Named


def _choice(given: Any) -> Any:
    if isinstance(given, str) and given not in ("none", "auto", "required"):
        raise invalid(f"{given!r:.70} is none of 'none', 'auto', 'required' and a function")
    return given


ToolChoice = Annotated[Literal["none", "auto", "required"] | NamedChoice, BeforeValidator(_choice)]


@dataclass(frozen=True)
class Offer:
    """The tools of a request.

    Parameters
    ----------
    tools
        The tools for the chat template.
    must
        Names of functions, one of which must be called; empty: no call is needed.
    several
        Whether an answer may hold more than one call.
    """

    tools: Sequence[Tool] = ()
    must: Sequence[str] = ()
    several: bool = True

    @classmethod
    def of(cls, tools: Sequence[Tool] | None, choice: Any, several: bool | None) -> "Offer":
        """Combine `tools`, `tool_choice` and `parallel_tool_calls`.

        Raises
        ------
        ApiError
            They contradict each other.
        """
        names = [tool.function.name for tool in tools or ()]
        if len(set(names)) < len(names):
            raise _wrong("two tools have the same name: give each its own", "tools")
        if choice in (None, "none", "auto"):
            shown = () if choice == "none" or not tools else tools
            return cls(shown, (), several is not False)
        if not tools:
            raise _wrong("tool_choice asks for a call, but there are no tools: send tools", "tool_choice")
        if choice == "required":
            return cls(tools, names, several is not False)
        name = choice.function.name
        if name not in names:
            raise _wrong(f"tool_choice names {name:.100}, which is none of the tools", "tool_choice")
        return cls(tools, (name,), several is not False)

    def constraint(self) -> JsonSchema | None:
        """The constraint that forces a call, where one is required."""
        if not self.must:
            return None
        functions = [tool.function for tool in self.tools if tool.function.name in self.must]
        if len(functions) == 1:
            return JsonSchema(_call_schema(functions[0], "#"))
        calls = [_call_schema(function, f"#/anyOf/{index}") for index, function in enumerate(functions)]
        return JsonSchema({"anyOf": calls})

    def writer(self) -> "Writer":
        """The writer that splits an answer's text into the parts of a message."""
        if self.must:
            return ForcedCall(self.must)
        return CallsInText(self) if self.tools else Text()


def _call_schema(function: Function, path: str) -> dict[str, Any]:
    """The schema of a call, at a given path of a larger schema."""
    parameters = NO_ARGUMENTS if function.parameters is None else function.parameters
    try:
        arguments = {"type": "object", **_moved(parameters, f"{path}/properties/arguments")}
    except RecursionError:
        raise _wrong(f"the parameters of {function.name} are nested too deeply", "tools") from None
    if "properties" in arguments:
        # No additional properties: a weak model would write them without end.
        arguments = {"additionalProperties": False, **arguments}
    properties = {"name": {"const": function.name}, "arguments": arguments}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _moved(schema: Any, path: str) -> Any:
    """Move a schema to a path of a larger one, and adjust its references to its own parts."""
    if isinstance(schema, list):
        return [_moved(part, path) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: f"{path}{value[1:]}"
        if key == "$ref" and isinstance(value, str) and value.startswith("#")
        else _moved(value, path)
        for key, value in schema.items()
    }


class Writer(Protocol):
    """Turns the text of one answer, piece by piece, into deltas of a message.

    Attributes
    ----------
    warnings : list of str
        Warnings for the client; complete after `end`.
    """

    warnings: list[str]

    def push(self, text: str) -> dict[str, Any]:
        """The delta for the next piece; empty: none yet."""
        ...

    def end(self, reason: str | None) -> tuple[dict[str, Any], str | None]:
        """The last delta, and the reason why the answer ended."""
        ...


@dataclass
class Text:
    """An answer of plain text."""

    warnings: list[str] = field(default_factory=list)

    def push(self, text: str) -> dict[str, Any]:
        """See `Writer`."""
        return {"content": text} if text else {}

    def end(self, reason: str | None) -> tuple[dict[str, Any], str | None]:
        """See `Writer`."""
        return {}, reason


class ForcedCall:
    """An answer that is one call, in JSON that a constraint enforces.

    Parameters
    ----------
    names
        Names of the functions that may be called.
    """

    def __init__(self, names: Sequence[str]):
        self.warnings: list[str] = []
        self._names = names
        self._text = ""
        self._sent: int | None = None  # number of characters sent, once the name is known

    def push(self, text: str) -> dict[str, Any]:
        """See `Writer`. A brace at the end is held back: it may close the whole call."""
        self._text += text
        delta: dict[str, Any] = {}
        if self._sent is None:
            begun = re.match(r'\{\s*"name"\s*:\s*"([^"]*)"\s*,\s*"arguments"\s*:\s*', self._text)
            if begun is None:
                return {}
            self._sent = begun.end()
            delta = _call(0, begun[1])
        until = len(self._text) - self._text.endswith("}")
        return _with_arguments(delta, self._take(until))

    def end(self, reason: str | None) -> tuple[dict[str, Any], str | None]:
        """See `Writer`."""
        try:
            json.loads(self._text)
        except ValueError:
            return self._cut_off(), reason
        return {}, "tool_calls"

    def _take(self, until: int) -> str:
        start = self._sent or 0
        self._sent = max(start, until)
        return self._text[start:until]

    def _cut_off(self) -> dict[str, Any]:
        self.warnings.append("the call was cut off: ask for more tokens")
        if self._sent is not None:
            return _with_arguments({}, self._take(len(self._text)))
        return _call(0, self._names[0]) if len(self._names) == 1 else {}


class CallsInText:
    """An answer that may hold calls between `<tool_call>` and `</tool_call>`, as many models write them.

    Parameters
    ----------
    offer
    """

    BEGIN, END = "<tool_call>", "</tool_call>"

    def __init__(self, offer: Offer):
        self.warnings: list[str] = []
        self._names = {tool.function.name for tool in offer.tools}
        self._several = offer.several
        self._held = ""

    def push(self, text: str) -> dict[str, Any]:
        """See `Writer`. Text that may be the beginning of a call is held back."""
        self._held += text
        start = self._held.find(self.BEGIN)
        if start < 0:
            lengths = range(min(len(self.BEGIN) - 1, len(self._held)), 0, -1)
            kept = next((n for n in lengths if self.BEGIN.startswith(self._held[-n:])), 0)
            start = len(self._held) - kept
        passed, self._held = self._held[:start], self._held[start:]
        return {"content": passed} if passed else {}

    def end(self, reason: str | None) -> tuple[dict[str, Any], str | None]:
        """See `Writer`."""
        if not self._held.startswith(self.BEGIN):
            return {"content": self._held} if self._held else {}, reason
        pieces = [piece.partition(self.END) for piece in self._held.split(self.BEGIN)[1:]]
        calls = [self._parsed(inside) for inside, _, _ in pieces]
        if None in calls:
            self.warnings.append(
                "the answer holds a call that is not of the tools, or no JSON: it is left as text"
            )
            return {"content": self._held}, reason
        if len(calls) > 1 and not self._several:
            self.warnings.append(
                f"the answer held {len(calls)} calls: with parallel_tool_calls false, one is kept"
            )
            calls = calls[:1]
        delta: dict[str, Any] = {"tool_calls": []}
        for index, (name, arguments) in enumerate(call for call in calls if call):
            whole = _with_arguments(_call(index, name), arguments)
            delta["tool_calls"] += whole["tool_calls"]
        if behind := "".join(after for _, _, after in pieces).strip():
            delta["content"] = behind
        return delta, "tool_calls" if reason == "stop" else reason

    def _parsed(self, inside: str) -> tuple[str, str] | None:
        try:
            call = json.loads(inside)
        except (ValueError, RecursionError):
            return None
        if not isinstance(call, dict) or call.get("name") not in self._names:
            return None
        arguments = call.get("arguments", {})
        if not isinstance(arguments, dict):
            return None
        return call["name"], json.dumps(arguments, ensure_ascii=False)


def _call(index: int, name: str) -> dict[str, Any]:
    """The delta that begins a call."""
    call = {"name": name, "arguments": ""}
    return {
        "tool_calls": [
            {"index": index, "id": f"call_{secrets.token_hex(12)}", "type": "function", "function": call}
        ]
    }


def _with_arguments(delta: dict[str, Any], arguments: str) -> dict[str, Any]:
    """Add more of the arguments of the first call to a delta."""
    if delta:
        delta["tool_calls"][0]["function"]["arguments"] += arguments
        return delta
    return {"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]} if arguments else {}


def joined(deltas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Join deltas to a message. Without text, its content is null where there are calls."""
    calls: dict[int, dict[str, Any]] = {}
    for call in (call for delta in deltas for call in delta.get("tool_calls", ())):
        if (known := calls.get(call["index"])) is None:
            calls[call["index"]] = {
                **{key: call[key] for key in ("id", "type")},
                "function": dict(call["function"]),
            }
        else:
            known["function"]["arguments"] += call["function"]["arguments"]
    content = "".join(delta.get("content", "") for delta in deltas)
    message = {"role": "assistant", "content": None if calls and not content else content, "refusal": None}
    return {**message, "tool_calls": list(calls.values())} if calls else message


def _wrong(message: str, param: str) -> ApiError:
    return ApiError(400, message, param=param, code="invalid_value")
