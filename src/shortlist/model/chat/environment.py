"""The Jinja environment of chat templates: like that of `transformers`, with a budget and traced texts.

All operations of a template on texts go through a hook of the sandbox, or through a node that is added here
to its syntax tree. These charge the budget (`budget`), and record the origin of texts (`traced`).
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import wraps
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import EvalContext
from jinja2.runtime import Context, LoopContext, markup_join
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, generate_lorem_ipsum, pass_context, pass_eval_context
from jinja2.visitor import NodeTransformer
from markupsafe import Markup

from shortlist.model.chat.budget import Budget, check_filter, check_method, check_operator
from shortlist.model.chat.traced import Traced, joined, lifted, wholly

_TEXTS = (str, Traced)
_budget: ContextVar[Budget] = ContextVar("budget")


class Refusal(jinja2.TemplateError):
    """The template called `raise_exception`."""


@contextmanager
def spending(budget: Budget) -> Iterator[None]:
    """Charge the operations of templates in this thread to a budget."""
    token = _budget.set(budget)
    try:
        yield
    finally:
        _budget.reset(token)


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox of chat templates; it charges their operations to the budget of `spending`."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_GenerationTag, loopcontrols],
            finalize=_written,
            optimized=False,  # no constant folding: compiling has no budget
        )
        self.filters["tojson"] = _to_json
        self.filters = {name: _checked_filter(name, function) for name, function in self.filters.items()}
        self.filters.update(_counted=_counted, _made=_made, _searched=_searched, _concat=_concat)
        self.tests = {name: _checked_test(function) for name, function in self.tests.items()}
        self.globals.update(
            dict=_Dictionaries(),
            namespace=_Namespace,
            raise_exception=_raise_exception,
            strftime_now=_strftime_now,
            lipsum=_lipsum,
        )

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:  # type: ignore[override]
        """Join the text of a macro, a block or a template."""
        return _budget.get().made(joined(pieces))

    def parse_as_written(self, source: str) -> nodes.Template:
        """The syntax tree of a template, without added nodes."""
        return super()._parse(source, None, None)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return _Hooks().visit(super()._parse(source, name, filename))

    def call(self, context: Context, function: Any, *arguments: Any, **named: Any) -> Any:  # type: ignore[override]
        budget = _budget.get()
        budget.step()
        if isinstance(function, LoopContext):  # a recursive loop
            arguments = tuple(map(budget.counted, arguments))
        method: Any = getattr(function, "__wrapped__", function)  # the sandbox wraps `format`
        owner = getattr(method, "__self__", None)
        if not isinstance(owner, str | bytes | int):
            return budget.made(super().call(context, function, *arguments, **named))
        name = method.__name__
        arguments = check_method(budget, owner, name, (*arguments, *named.values()) if named else arguments)
        if named:  # the arguments were only measured
            arguments = arguments[: len(arguments) - len(named)]

        def call(owner: Any, *arguments: Any, **named: Any) -> Any:
            return super(ChatEnvironment, self).call(context, self.getattr(owner, name), *arguments, **named)

        if not isinstance(owner, str):
            result = call(owner, *arguments, **named)
            return budget.made(wholly(result, sure=False) if isinstance(result, str) else result)
        return budget.made(lifted(call, owner, *arguments, **named))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """The wrapped format method of a traced text's plain text; its result is traced anew."""
        owner = getattr(value, "__self__", None)
        if not isinstance(owner, Traced) or value.__name__ not in ("format", "format_map"):
            return super().wrap_str_format(value)
        wrapped = super().wrap_str_format(getattr(str.__getitem__(owner, slice(None)), value.__name__))
        wrapped.__wrapped__ = value  # type: ignore[union-attr]
        return wrapped

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        budget = _budget.get()
        if operator == "+" and type(left) in _TEXTS and type(right) in _TEXTS:  # the most frequent operation
            budget.check(len(left) + len(right))
            return budget.made(joined((left, right)))
        check_operator(budget, operator, left, right)
        return budget.made(lifted(self.binop_table[operator], left, right))


class _Hooks(NodeTransformer):
    """Adds filters around operations for which the sandbox has no hook."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "_counted")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "_concat")

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        for side in (node, *node.ops):
            if not isinstance(side.expr, nodes.Const):
                side.expr = _filtered(side.expr, "_searched")
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "_made") if isinstance(node.arg, nodes.Slice) else node

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return node if all(isinstance(item, nodes.Const) for item in node.items) else _filtered(node, "_made")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        return node if node.ctx != "load" else self.visit_List(node)  # type: ignore[arg-type]

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "_made")


def _filtered(node: Any, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _counted(items: Iterable[Any]) -> Iterator[Any]:
    return _budget.get().counted(items)


def _made(value: Any) -> Any:
    return _budget.get().made(value)


def _searched(value: Any) -> Any:
    return _budget.get().searched(value)


@pass_eval_context
def _concat(context: EvalContext, parts: list[Any]) -> str:
    """The operator `~`."""
    texts = [_text(part) for part in parts]
    budget = _budget.get()
    budget.check(sum(map(len, texts)))
    if (context.autoescape or context.volatile) and any(isinstance(text, Markup) for text in texts):
        return budget.made(markup_join(texts))
    return budget.made(joined(texts))


@pass_context
def _written(context: Context, value: Any) -> Any:
    """The text that is written for a value between braces."""
    budget = _budget.get()
    if not isinstance(value, str):
        value = _text(value)
    elif isinstance(value, Markup) and not context.eval_ctx.autoescape:
        value = wholly(value, sure=False)
    budget.check(len(value))
    return value


def _text(value: Any) -> str:
    """Convert a value to text."""
    if isinstance(value, list | tuple | dict):
        check_filter(_budget.get(), "string", [value], {})
    return value if isinstance(value, str) else lifted(str, value)


def _checked_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    takes_context = int(hasattr(function, "jinja_pass_arg"))

    @wraps(function)
    def checked(*arguments: Any, **named: Any) -> Any:
        budget = _budget.get()
        context, values = arguments[:takes_context], list(arguments[takes_context:])
        check_filter(budget, name, values, named)
        return budget.made(
            lifted(lambda *given, **named: function(*context, *given, **named), *values, **named)
        )

    return checked


def _checked_test(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def checked(*arguments: Any) -> Any:
        for argument in arguments:
            _searched(argument)
        return function(*arguments)

    return checked


class _GenerationTag(Extension):
    """The tag `{% generation %}`, which marks the assistant's text for training; it opens a scope."""

    tags = {"generation"}  # noqa: RUF012 (as the base class declares it)

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_support"), [], [], body).set_lineno(line)

    def _support(self, caller: Callable[[], str]) -> str:
        return caller()


class _Dictionaries:
    """The function `dict`, and its `fromkeys`."""

    def __call__(self, *pairs: Any, **named: Any) -> dict[Any, Any]:
        return dict(*pairs, **named)

    def fromkeys(self, *arguments: Any) -> dict[Any, Any]:
        return dict.fromkeys(*arguments)


class _Namespace(Namespace):
    """A namespace that refuses names with a leading underscore, which could shadow names of the sandbox."""

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
    raise Refusal(message)


def _lipsum(n: int = 5, html: bool = True, min: int = 20, max: int = 100) -> str:
    _budget.get().spend(abs(n * max) * 16)  # words are shorter than that
    return generate_lorem_ipsum(n, html, min, max)


def _strftime_now(pattern: str) -> str:
    return lifted(lambda pattern: datetime.now().strftime(pattern), pattern)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes for HTML.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
