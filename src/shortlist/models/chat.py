"""Renders chat templates: programs that come with a checkpoint, so they run in a sandbox and on a budget.

The environment is that of `transformers`, less what no template needs. The budget stops loops and texts that
grow without end; it is no protection against every way to waste memory.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from shortlist.errors import CheckpointError, UsageError
from shortlist.models.messages import prepare_messages, prepare_tools, prepare_variables, tag_last, until_tag
from shortlist.models.template_facts import template_facts

# Far above every real template: the longest have 30 kB, and take some steps per message.
_MAX_SOURCE = 1 << 18
_MAX_STEPS = 1 << 17
_MAX_TEXT = 1 << 24


class ChatTemplate:
    """A compiled chat template.

    Parameters
    ----------
    source
        The template, in Jinja.
    name
        Of the checkpoint, for messages.
    variables
        What the template sees besides the messages: `bos_token`, `eos_token`, ...

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
        self._environment = _Environment()
        try:
            self.facts = template_facts(self._environment.parse(source))
            self._template = self._environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            self._fail(f"is broken in line {error.lineno}: {error.message}")
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
        """Write a conversation as the text that the model was trained on; see `Tokenizer.encode_chat`.

        Raises
        ------
        UsageError
            The messages are none, or the template refuses them, for example because roles do not alternate.
        CheckpointError
            The template fails, or exceeds its budget of steps or text.
        """
        chat = prepare_messages(messages, self.facts)
        if continue_final_message:
            if add_generation_prompt:
                raise UsageError(
                    "continue_final_message needs add_generation_prompt=False: the message goes on"
                )
            tag_last(chat)
        text = self._render(
            {
                "documents": None,
                **self._variables,
                **prepare_variables(template_kwargs, self.facts),
                "messages": chat,
                "tools": prepare_tools(tools),
                "add_generation_prompt": add_generation_prompt,
            }
        )
        return until_tag(text) if continue_final_message else text

    def _render(self, variables: Mapping[str, Any]) -> str:
        self._environment.steps_left = _MAX_STEPS
        pieces = self._template.generate(**variables)
        try:
            return _join(pieces)
        except _Refusal as refusal:
            raise UsageError(f"the chat template of {self._name} refuses these messages: {refusal}") from None
        except _OverBudget as error:
            self._fail(f"{error}; it may be damaged or hostile")
        except Exception as error:  # whatever an expression of the template can raise
            self._fail(f"fails with these messages: {type(error).__name__}: {error!s:.200}")

    def _fail(self, why: str) -> NoReturn:
        raise CheckpointError(f"the chat template of {self._name} {why}")


class _Refusal(jinja2.TemplateError):
    """The template called `raise_exception`."""


class _OverBudget(SecurityError):
    """The template takes too long, or makes too much text."""


def _join(pieces: Iterable[str]) -> str:
    joined, length = [], 0
    for piece in pieces:
        joined.append(piece)
        length += len(piece)
        if length > _MAX_TEXT:
            raise _OverBudget(f"writes more than {_MAX_TEXT} characters")
    return "".join(joined)


class _Environment(ImmutableSandboxedEnvironment):
    """A sandbox that counts the turns of loops and the calls, and looks at the size of texts as they grow."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})
    steps_left = _MAX_STEPS

    def __init__(self):
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationTag])
        del self.filters["center"], self.filters["format"]  # they write texts of any size
        self.filters.update(tojson=_to_json, _counted=self._counted, _sized=_sized)
        self.globals = {
            "range": self.globals["range"],
            "dict": lambda *pairs, **named: dict(*pairs, **named),
            "namespace": _Namespace,
            "raise_exception": _raise_exception,
            "strftime_now": lambda pattern: datetime.now().strftime(pattern),
        }

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template = super()._parse(source, name, filename)
        _budget(template)
        return template

    def call(self, *arguments: Any, **named: Any) -> Any:
        self._step()
        if any(isinstance(value, int) and value > _MAX_TEXT for value in (*arguments, *named.values())):
            raise _OverBudget(f"asks for more than {_MAX_TEXT} of something")
        return _sized(super().call(*arguments, **named))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or (operator == "%" and isinstance(left, str)):
            raise SecurityError(f"the operator {operator} is not allowed on {type(left).__name__}")
        if operator == "*":
            _check_product(left, right)
        return _sized(super().call_binop(context, operator, left, right))

    def _counted(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self._step()
            yield item

    def _step(self) -> None:
        self.steps_left -= 1
        if self.steps_left < 0:
            raise _OverBudget(f"takes more than {_MAX_STEPS} steps")


def _budget(template: nodes.Template) -> None:
    """Send what loops run over through `_counted`, and texts that are put together through `_sized`."""
    for loop in list(template.find_all(nodes.For)):
        loop.iter = _filtered(loop.iter, "_counted")
    for joined in list(template.find_all(nodes.Concat)):
        joined.nodes = [_filtered(part, "_sized") for part in joined.nodes]
    for block in list(template.find_all(nodes.AssignBlock)):
        block.filter = _filtered(block.filter, "_sized")


def _filtered(node: Any, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno if node else 1)


def _check_product(left: Any, right: Any) -> None:
    for text, times in ((left, right), (right, left)):
        if isinstance(text, str | list | tuple) and isinstance(times, int) and len(text) * times > _MAX_TEXT:
            raise _OverBudget(f"makes a text of more than {_MAX_TEXT} characters")


def _sized(value: Any) -> Any:
    if isinstance(value, str | list | tuple) and len(value) > _MAX_TEXT:
        raise _OverBudget(f"makes a text of more than {_MAX_TEXT} characters")
    return value


class _GenerationTag(Extension):
    """`{% generation %}`: marks for training what the assistant wrote; here its contents are all there is."""

    tags = {"generation"}  # noqa: RUF012 (as the base class declares it)

    def parse(self, parser: Any) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(Namespace):
    """Holds no names with an underscore in front, which could shadow what the sandbox relies on."""

    def __init__(*args: Any, **named: Any) -> None:
        self, args = args[0], args[1:]
        attributes = dict(*args, **named)
        for name in attributes:
            _check_name(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or name.startswith("_"):
        raise SecurityError(f"it sets the attribute {name!r}")


def _raise_exception(message: str) -> NoReturn:
    raise _Refusal(message)


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    # Jinja's own filter escapes for HTML.
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)
