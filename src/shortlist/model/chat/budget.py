"""Limits the steps of a chat template, and the amount of data that it builds or reads.

Every value is counted when it is made, so memory never exceeds the budget. Operations whose result can be
larger than their arguments (repetition, padding, joining, formats, ...) are estimated before they run.
"""

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from jinja2.exceptions import SecurityError

# Far above every real template: the longest take a few steps per message and write each message a few times.
MAX_STEPS = 1 << 17
MAX_SIZE = 1 << 25
MAX_SECONDS = 10.0
_STEPS_PER_ITEM = 64
_COPIES_OF_INPUT = 256
_MAX_BITS = 1 << 16

_ITEM = 256  # cost of an item of a list in characters, for memory and iteration
_ESCAPED = 12  # largest growth of a character by escaping or encoding
_SEARCHED = 64  # characters that are compared or searched in the time in which one is copied
_REWRITTEN = 16  # characters that are copied in the time in which Python code rewrites one
_TIMED = 64  # steps between two checks of the time


class OverBudget(SecurityError):
    """The template takes too long, or builds too much."""


class Budget:
    """The remaining budget of one rendering.

    Parameters
    ----------
    inputs
        The template's inputs; long conversations get a larger budget.
    """

    def __init__(self, inputs: Any):
        self._known: dict[int, int] = {}
        self.size_left = MAX_SIZE
        size = self._learn(inputs)
        self.size_left = MAX_SIZE + _COPIES_OF_INPUT * size
        self.steps_left = MAX_STEPS + _STEPS_PER_ITEM * len(self._known)
        self._until = time.thread_time() + MAX_SECONDS  # other threads and programs do not count
        self._operations = 0

    def _learn(self, value: Any) -> int:
        if isinstance(value, str):
            return len(value)
        items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        size = sum(map(self._learn, items)) + _ITEM * len(items)
        if isinstance(value, dict | list):
            self._known[id(value)] = size
        return size

    def step(self) -> None:
        """Count one iteration of a loop, or one call."""
        self._look_at_the_clock()
        self.steps_left -= 1
        if self.steps_left < 0:
            raise OverBudget("takes too many steps")

    def counted(self, items: Iterable[Any]) -> Iterator[Any]:
        """Iterate over items, and count each as a step."""
        for item in items:
            self.step()
            yield item

    def check(self, size: int) -> None:
        """Raise unless the budget allows this size."""
        if size > self.size_left:
            raise OverBudget("builds too much")

    def spend(self, size: int) -> None:
        """Charge a size that is made or read."""
        self._look_at_the_clock()
        self.check(size)
        self.size_left -= size

    def _look_at_the_clock(self) -> None:
        self._operations += 1
        if self._operations % _TIMED == 0 and time.thread_time() > self._until:
            raise OverBudget(f"takes longer than {MAX_SECONDS:g} s")

    def made(self, value: Any) -> Any:
        """Charge a value that was made; return it."""
        if isinstance(value, str | bytes):
            self.spend(len(value))
        elif isinstance(value, list | tuple | dict | set | frozenset):
            self.spend(self._measure(value, whole=False))
        elif isinstance(value, int) and value.bit_length() > _MAX_BITS:
            raise OverBudget("builds too large a number")
        return value

    def searched(self, value: Any) -> Any:
        """Charge a value that is compared or tested; return it."""
        if isinstance(value, str | bytes | list | tuple | dict):
            self.spend(self.extent(value) // _SEARCHED)
        return value

    def extent(self, value: Any) -> int:
        """The size of a value with its contents; contents that occur repeatedly count each time."""
        return self._measure(value, whole=True)

    def _measure(self, value: Any, *, whole: bool) -> int:
        """The size of a value: its items, or `whole`, with the characters of texts and with the inputs."""
        size, waiting = 0, [value]
        while waiting:
            item = waiting.pop()
            if (known := self._known.get(id(item))) is not None:
                size += known if whole else _ITEM
            elif isinstance(item, str | bytes):
                size += len(item) if whole else 0
            elif isinstance(item, list | tuple | dict | set | frozenset):
                size += _ITEM * (1 + len(item))
                self.check(size)
                waiting += chain(item, item.values()) if isinstance(item, dict) else item
            self.check(size)
        return size


def check_operator(budget: Budget, operator: str, left: Any, right: Any) -> None:
    """Estimate the result of an operator."""
    match operator, left, right:
        case "%", str() | bytes(), _:
            _check_format(budget, left, "%", right if isinstance(right, tuple) else (right,))
        case "*", int(), int():
            _check_bits(left.bit_length() + right.bit_length())
        case "*", int(), _:
            budget.check(_size(right) * max(left, 0))
        case "*", _, int():
            budget.check(_size(left) * max(right, 0))
        case "**", int(), int():
            _check_bits(left.bit_length() * max(right, 0))
        case "+", _, _:
            budget.check(_size(left) + _size(right))


def check_method(budget: Budget, owner: Any, name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Estimate the result of a method of a text or a number; return its arguments, iterators as lists."""
    if isinstance(owner, str | bytes):
        budget.spend(len(owner) // _SEARCHED)
    match name, arguments:
        case "center" | "ljust" | "rjust" | "zfill" | "to_bytes", [int(width), *_]:
            budget.check(width)
        case "expandtabs", [int(width), *_]:
            budget.check(len(owner) * width)
        case "replace", [old, new, *_]:
            _check_replace(budget, owner, old, new)
        case "join", [items]:
            items = list(budget.counted(items))
            budget.check(sum(map(_size, items)) + len(items) * len(owner))
            return (items,)
        case "format" | "format_map", _:
            _check_format(budget, owner, "{", arguments)
        case "translate", [dict(table)]:
            budget.spend(_REWRITTEN * len(owner))
            budget.check(len(owner) * max(map(_size, table.values()), default=0))
        case "encode" | "decode", [_, *_]:
            budget.spend(len(owner) ** 2 // 1024)  # some encodings take quadratic time
    return arguments


def check_filter(budget: Budget, name: str, arguments: list[Any], named: Mapping[str, Any]) -> None:
    """Estimate size and time of a filter; iterators among the arguments become lists."""
    if not arguments:
        return
    value = arguments[0]
    numbers = [abs(n) for n in (*arguments[1:], *named.values()) if type(n) is int]
    texts = [text for text in (*arguments[1:], *named.values()) if isinstance(text, str)]
    if name in _ITERATED and not isinstance(value, str | bytes | list | tuple | dict):
        value = arguments[0] = list(budget.counted(value)) if isinstance(value, Iterable) else value
    match name:
        case "round":
            _check_bits(8 * max(numbers, default=0))
        case "batch" | "slice" | "center":
            budget.check(max(numbers, default=0))
        case "replace":
            if len(arguments) > 2:
                _check_replace(budget, str(value), str(arguments[1]), str(arguments[2]))
        case "join":
            items = budget.extent(value)
            budget.check(_ESCAPED * items + max(map(len, texts), default=0) * _length(value))
        case "format":
            _check_format(budget, value, "%", (*arguments[1:], *named.values()))
        case "sum":
            budget.spend(_length(value) * budget.extent(value) // _ITEM)
        case "sort" | "unique" | "groupby" | "dictsort" | "min" | "max":
            budget.spend(budget.extent(value))
        case "tojson" | "indent" | "wordwrap":
            indents = max([*numbers, *map(len, texts)], default=0)
            lines = (
                value.count("\n") + 1 if isinstance(value, str) and name == "indent" else budget.extent(value)
            )
            budget.check(lines * (indents if name == "indent" else _ESCAPED + indents * _depth(value)))
            budget.spend(_REWRITTEN * budget.extent(value))
        case _ if name in _REWRITING:
            extent = budget.extent(value)
            budget.check(_ESCAPED * extent)
            budget.spend(_REWRITTEN * extent)


_ITERATED = ("join", "sum", "sort", "unique", "groupby", "min", "max", "list")
_REWRITING = (
    *("string", "pprint", "urlencode", "urlize", "escape", "e", "forceescape", "xmlattr"),
    *("striptags", "title", "wordcount", "upper", "lower", "capitalize"),
)


def _check_bits(bits: int) -> None:
    if bits > _MAX_BITS:
        raise OverBudget("builds too large a number")


def _check_replace(budget: Budget, text: Any, old: Any, new: Any) -> None:
    if isinstance(old, str | bytes):  # other types fail later
        budget.check(len(text) + text.count(old) * _size(new))


def _check_format(budget: Budget, pattern: Any, sign: str, arguments: Iterable[Any]) -> None:
    """Estimate a format: the width of a field may be in the pattern or among the arguments."""
    if isinstance(pattern, bytes):
        raise SecurityError("a pattern of bytes is not allowed")
    if not isinstance(pattern, str):
        return
    arguments = list(arguments)
    fields = pattern.count(sign)
    widths = sum(int(number[:12]) for number in re.findall(r"\d+", pattern))
    asked = [abs(n) for n in _flat(arguments) if type(n) is int]
    if "*" in pattern or re.search(r"\{[^{}]*\{", pattern):
        widths += fields * max(asked, default=0)
    budget.check(len(pattern) + widths + fields * _ESCAPED * budget.extent(arguments))


def _flat(arguments: list[Any]) -> Iterator[Any]:
    for argument in arguments:
        yield from argument.values() if isinstance(argument, dict) else (argument,)


def _size(value: Any) -> int:
    if isinstance(value, list | tuple):
        return _ITEM * len(value)
    return len(value) if isinstance(value, str | bytes) else 0


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes | list | tuple | dict) else 0


def _depth(value: Any) -> int:
    """Nesting depth of lists and dictionaries; texts count as one."""
    depth, level = 0, [value]
    while level and depth < 1000:
        depth += 1
        level = list(
            {
                id(item): item
                for held in level
                if isinstance(held, list | tuple | dict)
                for item in (held.values() if isinstance(held, dict) else held)
            }.values()
        )
    return depth
