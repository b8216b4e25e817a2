"""Strings that record which of their characters come from messages.

A chat template gets the same results with `Traced` as with `str`: each value is the result of `str`'s own
method, and the origin of its characters is recorded beside it. So special tokens that a user spells out are
distinguished from those that the template writes, without a change to the text while the template runs.
"""

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any, NamedTuple


class Span(NamedTuple):
    """A range of characters from messages; not `sure` where the template may have written some of them."""

    start: int
    end: int
    sure: bool = True


class Traced(str):
    """A string with spans that come from messages."""

    __slots__ = ("_spans",)
    _spans: tuple[Span, ...]

    def __new__(cls, text: str, spans: Iterable[Span] = ()) -> "Traced":
        made = super().__new__(cls, text)
        made._spans = tuple(spans)
        return made

    def __str__(self) -> str:
        return self

    def __getitem__(self, key: Any) -> str:
        text = super().__getitem__(key)
        places = range(len(self))[key]
        if isinstance(places, int):
            places = range(places, places + 1)
        if places.step != 1:  # reversed or strided: the whole result may be from messages
            return wholly(text) if self._spans else text
        return _traced(text, _cut(self._spans, places.start, places.stop))

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def __add__(self, other: Any) -> str:
        return joined((self, other)) if type(other) in (str, Traced) else NotImplemented

    def __radd__(self, other: Any) -> str:
        return joined((other, self)) if type(other) is str else NotImplemented

    def split(self, sep: Any = None, maxsplit: Any = -1) -> list[str]:  # type: ignore[override]
        return self._find(super().split(sep, maxsplit), sep)

    def rsplit(self, sep: Any = None, maxsplit: Any = -1) -> list[str]:  # type: ignore[override]
        return self._find(super().rsplit(sep, maxsplit), sep)

    def splitlines(self, keepends: Any = False) -> list[str]:  # type: ignore[override]
        return self._find(super().splitlines(keepends), None)

    def partition(self, sep: str) -> tuple[str, str, str]:  # type: ignore[override]
        first, between, last = self._find(super().partition(sep), "")
        return first, between, last

    def rpartition(self, sep: str) -> tuple[str, str, str]:  # type: ignore[override]
        first, between, last = self._find(super().rpartition(sep), "")
        return first, between, last

    def replace(self, old: Any, new: Any, count: Any = -1) -> str:  # type: ignore[override]
        if not old or not isinstance(new, str):
            return wholly(super().replace(old, new, count), sure=False)
        pieces = self.split(old, count)
        between = [new] * (len(pieces) - 1)
        return joined(text for pair in zip(pieces, [*between, ""], strict=True) for text in pair)

    def strip(self, chars: Any = None) -> str:  # type: ignore[override]
        return self._within(super().strip(chars), len(self) - len(super().lstrip(chars)))

    def lstrip(self, chars: Any = None) -> str:  # type: ignore[override]
        text = super().lstrip(chars)
        return self._within(text, len(self) - len(text))

    def rstrip(self, chars: Any = None) -> str:  # type: ignore[override]
        return self._within(super().rstrip(chars), 0)

    def removeprefix(self, prefix: Any) -> str:  # type: ignore[override]
        text = super().removeprefix(prefix)
        return self._within(text, len(self) - len(text))

    def removesuffix(self, suffix: Any) -> str:  # type: ignore[override]
        return self._within(super().removesuffix(suffix), 0)

    def _within(self, text: str, start: int) -> str:
        return _traced(text, _cut(self._spans, start, start + len(text)))

    def _find(self, pieces: Sequence[str], gap: str | None) -> list[str]:
        """Trace the pieces of this text; between two pieces it had `gap`, or whitespace."""
        found, at = [], 0
        for piece in pieces:
            if gap is None:
                at = self.find(piece, at)
            found.append(self._within(piece, at))
            at += len(piece) + len(gap or "")
        return found


def wholly(text: str, *, sure: bool = True) -> Traced:
    """A text that comes completely from messages, or may do so."""
    return Traced(text, [Span(0, len(text), sure)] if text else [])


def spans_of(text: str) -> tuple[Span, ...]:
    """The spans of a text that come from messages; none for other kinds of strings (`Markup`)."""
    if isinstance(text, Traced):
        return text._spans
    return () if type(text) is str or not text else (Span(0, len(text), sure=False),)


def joined(texts: Iterable[str]) -> str:
    """Concatenate texts."""
    texts, spans, at = list(texts), [], 0
    for text in texts:
        spans += [Span(at + start, at + end, sure) for start, end, sure in spans_of(text)]
        at += len(text)
    return _traced("".join(texts), spans)


def traced_data(value: Any) -> Any:
    """Copy lists, dictionaries and texts, and mark the texts as from messages; keys are not marked."""
    if isinstance(value, str):
        return wholly(value)
    if isinstance(value, list):
        return [traced_data(item) for item in value]
    if isinstance(value, dict):
        return {key: traced_data(item) for key, item in value.items()}
    return value


def lifted(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call a function without side effects, and find the spans of its result that come from messages.

    The function is called once more with marks around the spans of its arguments. If it treats marks as text,
    they enclose the same characters in the result. Otherwise the whole result may be from messages.
    """
    result = function(*arguments, **named)
    if type(result) is not str or not result:
        return result
    texts = [text for text in _texts((arguments, named)) if spans_of(text)]
    if not texts:
        return result
    first = arguments[0]
    if isinstance(first, Traced) and len(first) == len(result) and first.casefold() == result.casefold():
        return _traced(result, first._spans)
    if all(sure for text in texts for *_, sure in spans_of(text)):
        for opened, closed in _marks(result, texts):
            marked = _marked((arguments, named), opened, closed)
            try:
                spans = _read(function(*marked[0], **marked[1]), result, opened, closed)
            except Exception:
                continue
            if spans is not None:
                return _traced(result, spans)
    return wholly(result, sure=False)


def _traced(text: str, spans: Iterable[Span]) -> str:
    spans = tuple(spans)
    return Traced(text, spans) if spans else text


def _cut(spans: Iterable[Span], start: int, end: int) -> list[Span]:
    cut = (Span(max(span.start, start) - start, min(span.end, end) - start, span.sure) for span in spans)
    return [span for span in cut if span.start < span.end]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)


def _marks(result: str, texts: list[str]) -> Iterator[tuple[str, str]]:
    """Candidates for marks: two rare printable characters, and two words where only ASCII is kept."""
    word = secrets.token_hex(8)
    for pair in (("\u2e28", "\u2e29"), (f"o{word}", f"c{word}")):
        if not any(mark in text for mark in pair for text in (result, *texts)):
            yield pair


def _marked(value: Any, opened: str, closed: str) -> Any:
    if isinstance(value, Traced):
        cuts = [0, *(place for span in value._spans for place in span[:2]), len(value)]
        pieces = [str.__getitem__(value, slice(*ends)) for ends in pairwise(cuts)]
        marks = [*[opened, closed] * len(value._spans), ""]
        return "".join(chain.from_iterable(zip(pieces, marks, strict=True)))
    if isinstance(value, list | tuple):
        marked = [_marked(item, opened, closed) for item in value]
        return marked if isinstance(value, list) else tuple(marked)
    if isinstance(value, dict):
        return {key: _marked(item, opened, closed) for key, item in value.items()}
    return value


def _read(marked: Any, expected: str, opened: str, closed: str) -> list[Span] | None:
    """The spans between marks; None where the text without marks is not the expected one."""
    if not isinstance(marked, str):
        return None
    spans, at = [], 0
    pieces = re.split(f"({re.escape(opened)}|{re.escape(closed)})", marked)
    for place, piece in enumerate(pieces):
        if place % 2 == 0:
            if place % 4 == 2 and piece:
                spans.append(Span(at, at + len(piece)))
            at += len(piece)
        elif piece != (opened if place % 4 == 1 else closed):
            return None
    whole = len(pieces) % 4 == 1 and "".join(pieces[::2]) == expected
    return spans if whole else None
