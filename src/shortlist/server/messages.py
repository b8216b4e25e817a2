"""The messages of a chat, read from requests and passed to chat templates."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from shortlist.server import field_lists
from shortlist.server.errors import ApiError
from shortlist.server.values import Checked, invalid

ROLES = ("system", "developer", "user", "assistant", "tool")

OWNERS = {"tool_calls": "assistant", "refusal": "assistant", "tool_call_id": "tool"}
"""Fields that only messages of one role have."""


class Called(Checked):
    """The function of a call, and its arguments as a text."""

    lists: ClassVar = field_lists.CALLED
    what: ClassVar = "tool_calls.function"

    name: str = Field(min_length=1)
    arguments: str | dict[str, Any] | None = Field(None, description="JSON, as a text.")

    def plain(self) -> dict[str, Any]:
        """The form for `Tokenizer.encode_chat`, with the arguments as a text, which it may decode."""
        text = self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments or {})
        return {"name": self.name, "arguments": text}


class ToolCall(Checked):
    """A function call that an assistant asked for."""

    lists: ClassVar = field_lists.TOOL_CALL
    what: ClassVar = "tool_calls"

    id: str | None = None
    type: Literal["function"] | None = None
    function: Called

    def plain(self) -> dict[str, Any]:
        """The form for `Tokenizer.encode_chat`."""
        return {"id": self.id or "", "type": "function", "function": self.function.plain()}


class Part(Checked):
    """A part of a message: text, or an assistant's refusal."""

    lists: ClassVar = field_lists.PART
    what: ClassVar = "a content part"

    type: Literal["text", "refusal"]
    text: str | None = None
    refusal: str | None = None


def _content(given: Any) -> Any:
    if given is None or isinstance(given, str):
        return given
    if not isinstance(given, list):
        raise invalid("should be a text or a list of parts")
    for place, part in enumerate(given):
        if not isinstance(part, Mapping) or not isinstance(kind := part.get("type"), str):
            raise invalid(f"[{place}] is not a part: write {{'type': 'text', 'text': ...}}")
        if kind not in ("text", "refusal"):
            raise invalid(f"[{place}] is of type {kind:.50}, but this model reads text only")
        if not isinstance(part.get(kind), str):
            raise invalid(f"[{place}] of type {kind} needs a field {kind}, a text")
    return given


def _role(given: Any) -> Any:
    if given not in ROLES:
        known = ", ".join(ROLES)
        hint = "use tool" if given == "function" else f"known are {known}"
        raise invalid(f"{given!r:.70} is not a role that is known here: {hint}")
    return given


class Message(Checked):
    """A turn of a chat."""

    lists: ClassVar = field_lists.MESSAGE
    what: ClassVar = "messages"

    role: Annotated[Literal["system", "developer", "user", "assistant", "tool"], BeforeValidator(_role)]
    content: Annotated[str | list[Part] | None, BeforeValidator(_content)] = Field(
        None, description="Only an assistant's may be left out."
    )
    name: str | None = Field(None, description="For chat templates that read it.")
    refusal: str | None = Field(None, description="An assistant's, instead of content.")
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = Field(None, description="For chat templates that read it.")
    reasoning: str | None = Field(None, description="Another name for reasoning_content.")
    thinking: str | None = Field(None, description="Another name for reasoning_content.")

    def plain(self) -> dict[str, Any]:
        """The form for `Tokenizer.encode_chat`.

        Raises
        ------
        ApiError
            There is no content, or a field does not belong to the role.
        """
        if self.content is None and self.role != "assistant":
            raise _wrong(f"a message of role {self.role} has no content: write some")
        for name, owner in OWNERS.items():
            if getattr(self, name) and self.role != owner:
                raise _wrong(f"a message of role {self.role} has {name}, which belongs to role {owner}")
        plain = self.model_dump(exclude_none=True, exclude={"refusal", "tool_calls"})
        plain.setdefault("content", self.refusal or "")
        if self.tool_calls:
            plain["tool_calls"] = [call.plain() for call in self.tool_calls]
        return plain


def _wrong(message: str) -> ApiError:
    return ApiError(400, message, param="messages", code="invalid_value")
