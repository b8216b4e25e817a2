"""Answers that must match something: a JSON schema or a regular expression, through `llguidance`.

Before each token the grammar says which tokens may follow, in time that hardly depends on the vocabulary; the
rows of all others are forbidden. Where few may follow, they are a shortlist that needs no estimate.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol
from weakref import WeakKeyDictionary, ref

import numpy as np

from shortlist.errors import UsageError
from shortlist.model.tokenizer.tokenizer import Tokenizer

MAX_SOURCE = 1 << 16
"""Characters of a schema or an expression."""


class ConstraintState(Protocol):
    """Where one answer is in what it must match."""

    def allowed(self) -> np.ndarray:
        """Which tokens may come next, bool [vocab]: one at least, be it one that ends the text."""
        ...

    def push(self, token: int) -> None:
        """Go on by a token, which was allowed."""
        ...


class Constraint(Protocol):
    """What an answer must match."""

    def start(self, tokenizer: Tokenizer, vocab_size: int, /) -> ConstraintState:
        """The state of an empty answer. Raises UsageError where the constraint cannot be used."""
        ...


@dataclass(frozen=True)
class JsonSchema:
    """The answer is JSON that a schema describes.

    Parameters
    ----------
    schema
        As json-schema.org defines it; `{"type": "object"}` takes any object.
    """

    schema: Mapping[str, Any]

    def start(self, tokenizer: Tokenizer, vocab_size: int) -> ConstraintState:
        """See `Constraint`."""
        source = _short(json.dumps(self.schema), "the JSON schema")
        matcher = _library().LLMatcher
        # Without it a weak model may write white space for ever.
        options: Any = {"whitespace_flexible": False}
        try:
            grammar = matcher.grammar_from_json_schema(source, overrides=options)
        except ValueError as error:
            raise UsageError(f"the JSON schema cannot be used: {error}") from None
        return _Grammar(grammar, "the JSON schema", tokenizer, vocab_size)


@dataclass(frozen=True)
class Regex:
    """The whole answer matches a regular expression, in the syntax of Rust's `regex` without look-around."""

    pattern: str

    def start(self, tokenizer: Tokenizer, vocab_size: int) -> ConstraintState:
        """See `Constraint`."""
        source = _short(self.pattern, "the regular expression")
        grammar = _library().LLMatcher.grammar_from_regex(source)
        return _Grammar(grammar, "the regular expression", tokenizer, vocab_size)


class _Grammar:
    """A grammar of `llguidance`, and how far an answer is in it."""

    def __init__(self, grammar: str, what: str, tokenizer: Tokenizer, vocab_size: int):
        self._what, self._vocab_size = what, vocab_size
        self._matcher = _library().LLMatcher(_vocabulary(tokenizer), grammar, log_level=0)
        self._check("cannot be used")

    def allowed(self) -> np.ndarray:
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check("cannot be followed")
        known = np.unpackbits(bits, count=min(8 * len(bits), self._vocab_size), bitorder="little")
        allowed = np.zeros(self._vocab_size, bool)
        allowed[: len(known)] = known
        if not allowed.any():
            raise UsageError(f"{self._what} cannot be followed with the tokens of this model")
        return allowed

    def push(self, token: int) -> None:
        self._matcher.consume_token(token)
        self._check("cannot be followed")

    def _check(self, problem: str) -> None:
        if self._matcher.is_error():
            reason = " ".join(self._matcher.get_error().split())
            raise UsageError(f"{self._what} {problem}: {reason:.300}")


class _Pieces:
    """A vocabulary in the form that `llguidance.TokenizerWrapper` asks for."""

    def __init__(self, tokenizer: Tokenizer):
        self.eos_token_id = min(tokenizer.eos_ids)
        self.bos_token_id = tokenizer.bos_id
        self.special_token_ids = sorted(tokenizer.special_ids)
        self.tokens = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
        self._tokenizer = ref(tokenizer)  # which `_vocabularies` must not keep

    def __call__(self, text: str | bytes) -> list[int]:
        if isinstance(text, bytes):
            text = text.decode(errors="replace")
        tokenizer = self._tokenizer()
        return tokenizer.encode(text, add_special=False) if tokenizer else []


_vocabularies: WeakKeyDictionary[Tokenizer, Any] = WeakKeyDictionary()


def _vocabulary(tokenizer: Tokenizer) -> Any:
    """The vocabulary as a trie, made once for each tokenizer."""
    if tokenizer not in _vocabularies:
        if not tokenizer.eos_ids:
            raise UsageError("this model has no token that ends a text, which a constraint needs")
        library = _library()
        pieces = library.TokenizerWrapper(_Pieces(tokenizer))
        _vocabularies[tokenizer] = library.LLTokenizer(pieces, eos_token=sorted(tokenizer.eos_ids))
    return _vocabularies[tokenizer]


def _library() -> Any:
    if find_spec("llguidance") is None:
        raise UsageError("a constraint needs llguidance: pip install 'shortlist[serve]'")
    import llguidance

    return llguidance


def _short(source: str, what: str) -> str:
    try:
        source.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{what} is not valid UTF-8 at character {error.start + 1}") from None
    if len(source) > MAX_SOURCE:
        raise UsageError(f"{what} has {len(source)} characters: at most {MAX_SOURCE} are taken")
    return source
