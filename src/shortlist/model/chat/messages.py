"""Converts the messages of a chat to the form that its template expects.

As in `transformers`, fields that are None are left out, and reasoning is given under each of its names. Forms
that chat APIs allow and templates do not know are converted: parts of content, the role `developer`, and
arguments of tool calls as text.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from shortlist.errors import UsageError
from shortlist.model.chat.facts import TemplateFacts

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
"""The roles of every chat; a template may know more."""

_REASONING = ("reasoning_content", "thinking", "reasoning")
_BARE = {str: str.__str__, int: int.__int__, float: float.__float__}
_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}


def prepare_messages(messages: Any, facts: TemplateFacts) -> list[dict[str, Any]]:
    """Check messages and convert them to the form that the template expects.

    Parameters
    ----------
    messages
        Mappings with a `role`, mostly a `content`, and further fields that the template reads.
    facts
        The facts of the template.

    Raises
    ------
    UsageError
        An item is no message, its role is unknown, or its content is not text.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes) or not messages:
        raise UsageError("a chat needs a list of at least one message, each with a role and a content")
    return [_message(message, f"message {n} of the chat", facts) for n, message in enumerate(messages, 1)]


def plain_data(value: Any, what: str) -> Any:
    """Copy a value into plain JSON types, whose methods are safe.

    Raises
    ------
    UsageError
        The value holds another type, or is nested too deeply.
    """
    try:
        return _plain(value, what)
    except RecursionError:
        raise UsageError(f"{what} is nested too deeply: at most some hundred levels are read") from None


def _plain(value: Any, what: str) -> Any:
    if value is None or type(value) in (str, bool, int, float):
        return value
    for kind, bare in _BARE.items():  # subclasses may override methods
        if isinstance(value, kind):
            return bare(value)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise UsageError(f"{what} has a key that is not text: use the types of JSON")
        return {str(key): _plain(item, what) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_plain(item, what) for item in value]
    raise UsageError(f"{what} holds a {type(value).__name__}: use the types of JSON")


def _message(message: Any, what: str, facts: TemplateFacts) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise UsageError(f"{what} needs a role and a content: it is a {type(message).__name__}")
    plain = {key: value for key, value in plain_data(message, what).items() if value is not None}
    plain["role"] = _role(plain.get("role"), what, facts)
    if "content" in plain:
        plain["content"] = _content(plain["content"], what, facts)
    if "tool_calls" in plain:
        plain["tool_calls"] = _tool_calls(plain["tool_calls"], what, facts)
    reasoning = next((plain[name] for name in _REASONING if name in plain), None)
    if reasoning is not None:
        plain = {"thinking": reasoning, **plain, "reasoning_content": reasoning}
    return plain


def _role(role: Any, what: str, facts: TemplateFacts) -> str:
    if not isinstance(role, str):
        raise UsageError(f"{what} needs a role: one of {', '.join(ROLES)}")
    if role not in ROLES and role not in facts.roles:
        known = ", ".join([*ROLES, *sorted(facts.roles - set(ROLES))])
        raise UsageError(f"{what} has the role {role!r:.80}: use one of {known}")
    return "system" if role == "developer" and "developer" not in facts.roles else role


def _content(content: Any, what: str, facts: TemplateFacts) -> Any:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if facts.content == "parts" else content
    if not isinstance(content, list):
        raise UsageError(f"the content of {what} must be text or a list of parts of text")
    texts = [_part(part, f"part {number} of {what}") for number, part in enumerate(content, 1)]
    if facts.content == "text":
        return "\n".join(texts)  # the separator of vLLM and llama.cpp
    return [{"type": "text", "text": text} for text in texts]


def _part(part: Any, what: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str) or kind not in _TEXT_PARTS:
        raise UsageError(f"{what} is of the type {kind!r:.80}: only parts of the type 'text' can be read")
    text = part.get(_TEXT_PARTS[kind])
    if not isinstance(text, str):
        raise UsageError(f"{what} has no {_TEXT_PARTS[kind]}: give it as text")
    return text


def _tool_calls(calls: Any, what: str, facts: TemplateFacts) -> list[Any]:
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise UsageError(f"the tool_calls of {what} must be a list of calls, each with a function")
    return [_tool_call(call, f"tool call {n} of {what}", facts) for n, call in enumerate(calls, 1)]


def _tool_call(call: dict[str, Any], what: str, facts: TemplateFacts) -> dict[str, Any]:
    """The call with its arguments as an object, unless the template writes them unchanged."""
    if "function" in call:
        if not isinstance(call["function"], dict):
            raise UsageError(f"the function of {what} must have a name and arguments")
        return {**call, "function": _tool_call(call["function"], what, facts)}
    arguments = call.get("arguments")
    if not isinstance(arguments, str) or facts.writes_arguments:
        return call
    try:
        decoded = json.loads(arguments) if arguments.strip() else {}
    except (ValueError, RecursionError):
        decoded = None
    if not isinstance(decoded, dict):
        raise UsageError(f"the arguments of {what} must be a JSON object, not {arguments!r:.80}")
    return {**call, "arguments": decoded}


_OWN_VARIABLES = ("messages", "tools", "add_generation_prompt", "continue_final_message")
_TAG = "CONTINUE_FINAL_MESSAGE_TAG "  # as in transformers, for templates that measure messages


def prepare_variables(given: Any, facts: TemplateFacts) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise UsageError("template_kwargs must map names of variables to values")
    for name in given:
        if name in _OWN_VARIABLES:
            raise UsageError(f"template_kwargs cannot hold {name}: give it as a parameter of its own")
        if name not in facts.variables:
            known = ", ".join(sorted(facts.variables - set(_OWN_VARIABLES))) or "none but the messages"
            raise UsageError(
                f"the chat template does not read {name!r:.80}; the variables that it reads: {known}"
            )
    documents = given.get("documents")
    if documents is not None and not _are_objects(documents):
        raise UsageError("documents must be a list of objects, each mostly with a title and a text")
    return plain_data(given, "template_kwargs")


def prepare_tools(tools: Any) -> list[Any] | None:
    if tools is None:
        return None
    if not _are_objects(tools):
        raise UsageError("tools must be a list of JSON schemas, each an object")
    return plain_data(tools, "tools")


def _are_objects(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, Mapping) for item in value)


def tag_last(chat: list[dict[str, Any]]) -> None:
    """Mark the end of the last message."""
    last, content = chat[-1], chat[-1].get("content")
    if isinstance(content, str):
        last["content"] = content + _TAG
    elif content:
        content[-1]["text"] += _TAG
    else:
        raise UsageError("continue_final_message needs a last message with content")


def until_tag(text: str) -> str:
    """The rendered text up to the end of the message that is continued."""
    end = text.rfind(_TAG.strip())
    if end < 0:
        raise UsageError("the chat template does not write the last message, so that it cannot be continued")
    return text[:end] if text.startswith(_TAG, end) else text[:end].rstrip()
