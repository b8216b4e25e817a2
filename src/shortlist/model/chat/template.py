"""Renders chat templates: programs from checkpoints, which run in a sandbox and within a budget."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jinja2

from shortlist.errors import CheckpointError, UsageError
from shortlist.model.chat.budget import Budget, OverBudget
from shortlist.model.chat.environment import ChatEnvironment, Refusal, spending
from shortlist.model.chat.facts import template_facts
from shortlist.model.chat.messages import (
    prepare_messages,
    prepare_tools,
    prepare_variables,
    tag_last,
    until_tag,
)
from shortlist.model.chat.traced import traced_data

_MAX_SOURCE = 1 << 18


class ChatTemplate:
    """A compiled chat template.

    Parameters
    ----------
    source
        The template, in Jinja.
    name
        Name of the checkpoint, for messages.
    variables
        Variables of the template beside the messages: `bos_token`, `eos_token`, ...

    Attributes
    ----------
    facts : TemplateFacts
        The form of messages that the template expects.

    Raises
    ------
    CheckpointError
        The template cannot be compiled.
    """

    def __init__(self, source: str, name: str, variables: Mapping[str, str]):
        self._name = name
        self._variables = dict(variables)
        if len(source) > _MAX_SOURCE:
            self._fail(f"has {len(source)} characters, more than the {_MAX_SOURCE} that are read")
        environment = ChatEnvironment()
        try:
            source.encode()
            self.facts = template_facts(environment.parse_as_written(source))
            self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            self._fail(f"is broken in line {error.lineno}: {error.message}")
        except UnicodeError:
            self._fail("is not valid text: it holds half of a surrogate pair")
        except (RecursionError, MemoryError, SyntaxError):
            self._fail("is nested too deeply to be compiled")

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """Render a conversation as the text on which the model was trained; see `Tokenizer.encode_chat`.

        Returns
        -------
        str
            The text; `traced.spans_of` gives its spans from messages, tools and variables.

        Raises
        ------
        UsageError
            The messages are invalid, or the template refuses them, for example because roles do not
            alternate.
        CheckpointError
            The template exceeds its budget.
        """
        chat = prepare_messages(messages, self.facts)
        if continue_final_message:
            if add_generation_prompt:
                raise UsageError(
                    "continue_final_message needs add_generation_prompt=False: the message goes on"
                )
            tag_last(chat)
        variables = {
            "documents": None,
            **self._variables,
            **traced_data(prepare_variables(template_kwargs, self.facts)),
            "tools": traced_data(prepare_tools(tools)),
            "add_generation_prompt": add_generation_prompt,
        }
        text = self._render_with_contents([_traced(message) for message in chat], variables)
        return until_tag(text) if continue_final_message else text

    def _render_with_contents(self, chat: list[dict[str, Any]], variables: dict[str, Any]) -> str:
        """Render; if the template fails on a message without content, try null and then an empty content."""
        try:
            return self._render(chat, variables)
        except _Failure as failure:
            for content in (None, "") if any("content" not in message for message in chat) else ():
                try:
                    return self._render([{"content": content, **message} for message in chat], variables)
                except _Failure:
                    continue
            raise UsageError(f"the chat template cannot write these messages: {failure}") from None

    def _render(self, chat: list[dict[str, Any]], variables: dict[str, Any]) -> str:
        variables = {**variables, "messages": chat}
        try:
            with spending(Budget(variables)):
                return ChatEnvironment.concat(self._template.generate(**variables))
        except Refusal as refusal:
            raise UsageError(f"the chat template refuses these messages: {refusal}") from None
        except OverBudget as error:
            self._fail(f"{error}; it may be damaged or hostile")
        except Exception as error:  # an expression of the template can raise any class
            raise _Failure(f"{type(error).__name__}: {error!s:.200}") from None

    def _fail(self, why: str) -> NoReturn:
        raise CheckpointError(f"the chat template of {self._name} {why}")


class _Failure(Exception):
    """An expression of the template raised an error."""


def _traced(message: dict[str, Any]) -> dict[str, Any]:
    """Trace a message. Its role counts as the template's: it was checked, and becomes special tokens."""
    return {**traced_data(message), "role": message["role"]}
