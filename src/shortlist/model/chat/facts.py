"""Finds from a chat template's syntax tree the form of messages that it expects."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from jinja2 import meta, nodes


@dataclass(frozen=True)
class TemplateFacts:
    """The form of messages that a chat template expects.

    Parameters
    ----------
    variables
        Names that it reads and does not set: `messages`, `tools`, `enable_thinking`, ...
    roles
        Texts with which it compares roles.
    content
        `text` where it uses the content of a message as text, `parts` where it loops over parts, or `both`.
    writes_arguments
        Whether it writes the arguments of tool calls unchanged, and so expects JSON text, not an object.
    """

    variables: frozenset[str]
    roles: frozenset[str]
    content: Literal["text", "parts", "both"]
    writes_arguments: bool


def template_facts(template: nodes.Template) -> TemplateFacts:
    """Read a parsed template, before nodes of its tree are replaced."""
    content = _Flow(template, "content")
    arguments = _Flow(template, "arguments")
    parts = any(map(content.holds, _parts(template)))
    return TemplateFacts(
        roles=frozenset(_roles(template)),
        content="text"
        if not parts
        else "both"
        if content.is_tested("string", "iterable", "sequence")
        else "parts",
        writes_arguments=_written_as_it_is(template, arguments)
        and not arguments.is_tested("string", "mapping"),
        variables=frozenset(meta.find_undeclared_variables(template)),  # last: it changes the tree
    )


class _Flow:
    """Follows a field of messages through assignments, filters and macros, by the names bound to it."""

    def __init__(self, template: nodes.Template, field: str):
        self._template = template
        self._field = field
        self._names: set[str] = set()
        macros = {macro.name: macro for macro in template.find_all(nodes.Macro)}
        known = -1
        while known < len(self._names):
            known = len(self._names)
            for target, value in _assignments(template, macros):
                if self.holds(value):
                    self._names.add(target)

    def holds(self, node: nodes.Node | None) -> bool:
        """Whether an expression is the field, possibly changed by filters."""
        match node:
            case nodes.Name():
                return node.name in self._names
            case nodes.Getattr() | nodes.Getitem():
                return _key(node) == self._field
            case nodes.Call(node=nodes.Getattr(attr="get"), args=[nodes.Const(value=name), *_]):
                return name == self._field
            case nodes.Filter():
                return self.holds(node.node)
            case nodes.CondExpr():
                return self.holds(node.expr1) or self.holds(node.expr2)
            case nodes.Or() | nodes.And():
                return self.holds(node.left) or self.holds(node.right)
        return False

    def is_tested(self, *tests: str) -> bool:
        """Whether the template tests the type of the field."""
        return any(
            test.name in tests and self.holds(test.node) for test in self._template.find_all(nodes.Test)
        )


def _assignments(
    template: nodes.Template, macros: dict[str, nodes.Macro]
) -> Iterator[tuple[str, nodes.Node]]:
    for assign in template.find_all(nodes.Assign):
        if isinstance(assign.target, nodes.Name):
            yield assign.target.name, assign.node
        elif isinstance(assign.target, nodes.NSRef):
            yield assign.target.attr, assign.node
    for call in template.find_all(nodes.Call):
        macro = macros.get(call.node.name) if isinstance(call.node, nodes.Name) else None
        if macro is not None:
            for parameter, value in zip(macro.args, call.args, strict=False):
                yield parameter.name, value
            for keyword in call.kwargs:
                yield keyword.key, keyword.value


def _key(node: nodes.Node | None) -> Any:
    """The constant name of an attribute or an item that is read."""
    match node:
        case nodes.Getattr():
            return node.attr
        case nodes.Getitem(arg=nodes.Const(value=value)):
            return value
    return None


def _parts(template: nodes.Template) -> Iterator[Any]:
    """Expressions that have parts with fields: looped over, filtered, or with a field of a part read."""
    for loop in template.find_all(nodes.For):
        fields = loop.find_all((nodes.Getattr, nodes.Getitem))
        if any(isinstance(_key(field), str) and _same_name(field.node, loop.target) for field in fields):
            yield loop.iter
    for chosen in template.find_all(nodes.Filter):
        if chosen.name in ("selectattr", "rejectattr") or any(
            key.key == "attribute" for key in chosen.kwargs
        ):
            yield chosen.node
    for field in template.find_all((nodes.Getattr, nodes.Getitem)):
        if isinstance(_key(field), str) and type(_key(field.node)) is int:
            numbered: Any = field.node
            yield numbered.node


def _same_name(node: nodes.Node, target: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and isinstance(target, nodes.Name) and node.name == target.name


def _roles(template: nodes.Template) -> Iterator[str]:
    role = _Flow(template, "role")
    for compare in template.find_all(nodes.Compare):
        sides = [compare.expr, *(operand.expr for operand in compare.ops)]
        if any(map(role.holds, sides)):
            yield from _texts(sides)
    for test in template.find_all(nodes.Test):
        if role.holds(test.node):
            yield from _texts(test.args)
    for chosen in template.find_all(nodes.Filter):
        if chosen.name in ("selectattr", "rejectattr") and "role" in _texts(chosen.args[:1]):
            yield from _texts(chosen.args[2:])


def _texts(expressions: list[Any]) -> Iterator[str]:
    for expression in expressions:
        items = expression.items if isinstance(expression, nodes.List | nodes.Tuple) else [expression]
        yield from (i.value for i in items if isinstance(i, nodes.Const) and isinstance(i.value, str))


_OF_OBJECTS = ("tojson", "items", "dictsort")


def _written_as_it_is(template: nodes.Template, field: _Flow) -> bool:
    """Whether a field is written without a filter for objects, and is nowhere used as an object."""
    written: list[nodes.Node] = []
    for output in template.find_all((nodes.Output, nodes.Concat)):
        written += output.nodes
    for added in template.find_all(nodes.Add):
        written += [added.left, added.right]
    objects = [node.node for node in template.find_all(nodes.Filter) if node.name in _OF_OBJECTS]
    objects += [
        node.node for node in template.find_all(nodes.Getattr) if node.attr in ("items", "keys", "values")
    ]
    objects += [loop.iter for loop in template.find_all(nodes.For)]
    return any(map(field.holds, written)) and not any(map(field.holds, objects))
