"""Encodes like `tokenizers.Tokenizer`, but stores the vocabulary once instead of in several maps."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tokenizers import AddedToken, models
from tokenizers import Tokenizer as Library
from tokenizers.decoders import Decoder
from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import PreTokenizer

from shortlist import _native


class Encoding(NamedTuple):
    """Tokens, and the ranges in the text of those that are matched whole; (0, 0) for other tokens."""

    ids: list[int]
    offsets: list[tuple[int, int]]


class CompactBackend:
    """The part of `tokenizers.Tokenizer` that this package uses, in a tenth of its memory.

    The library still finds the tokens that are matched whole, normalizes, and cuts words. It does not get the
    vocabulary: 262,144 pieces (Gemma) would take 95 MB there, and a second to build.

    Parameters
    ----------
    pieces
        The vocabulary, by id.
    bpe
        Byte-pair encoding over the vocabulary.
    added
        The tokens that are matched whole, by id.
    normalizer, pre_tokenizer
        Applied to the text between these tokens, where they are given.
    decoder
        Decoder, for `TokenBytes`.
    around
        The special tokens at the start and at the end of a text.

    Attributes
    ----------
    encode_special_tokens : bool
        Whether special tokens that a text spells out are encoded as text.
    """

    def __init__(
        self,
        pieces: _native.Strings,
        bpe: _native.Bpe,
        added: Mapping[int, AddedToken],
        *,
        normalizer: Normalizer | None = None,
        pre_tokenizer: PreTokenizer | None = None,
        decoder: Decoder,
        around: tuple[Sequence[int], Sequence[int]] = ((), ()),
    ):
        self.decoder = decoder
        self._first, self._last = map(list, around)
        self._pieces, self._next_id = pieces, len(pieces)
        self._bpe = bpe
        self._normalizer, self._pre_tokenizer = normalizer, pre_tokenizer
        # Without a vocabulary, it finds the tokens that are matched whole and drops all other text.
        self._finder = Library(models.BPE(cache_capacity=0))
        if normalizer:
            self._finder.normalizer = normalizer
        self._finder.add_special_tokens([token for token in added.values() if token.special])
        self._finder.add_tokens([token for token in added.values() if not token.special])
        ids = {token.content: i for i, token in added.items()}
        found = self._finder.get_added_tokens_decoder()
        self._ids = [ids[found[i].content] for i in range(len(found))]
        # The library finds the last of equal tokens.
        self._equal = {i: token for i, token in added.items() if ids[token.content] != i}

    @property
    def encode_special_tokens(self) -> bool:
        return self._finder.encode_special_tokens

    @encode_special_tokens.setter
    def encode_special_tokens(self, value: bool) -> None:
        self._finder.encode_special_tokens = value

    def encode(self, text: str, add_special_tokens: bool = True) -> Encoding:
        """Encode a text."""
        found = self._finder.encode(text, add_special_tokens=False)
        ids, offsets, done = [], [], 0

        def put(tokens: list[int], offset: tuple[int, int] = (0, 0)) -> None:
            ids.extend(tokens)
            offsets.extend([offset] * len(tokens))

        for number, (start, end) in zip(found.ids, found.offsets, strict=True):
            put(self._merge(text[done:start]))
            put([self._ids[number]], (start, end))
            done = end
        put(self._merge(text[done:]))
        if add_special_tokens:
            ids = [*self._first, *ids, *self._last]
            offsets = [(0, 0)] * len(self._first) + offsets + [(0, 0)] * len(self._last)
        return Encoding(ids, offsets)

    def _merge(self, text: str) -> list[int]:
        if not text:
            return []
        if self._normalizer:
            text = self._normalizer.normalize_str(text)
        if not self._pre_tokenizer:
            return self._bpe.encode([text])
        return self._bpe.encode([word for word, _ in self._pre_tokenizer.pre_tokenize_str(text)])

    def add_tokens(self, tokens: list[AddedToken]) -> None:
        """Add tokens that are matched whole; their ids follow those of the vocabulary."""
        self._finder.add_tokens(tokens)
        for _ in tokens:
            self._ids.append(self._next_id)
            self._next_id += 1

    def token_to_id(self, content: str) -> int | None:
        """The id of a token that is matched whole."""
        number = self._finder.token_to_id(content)
        return None if number is None else self._ids[number]

    def id_to_token(self, token: int) -> str | None:
        """The piece with this id."""
        return self._pieces[token] if 0 <= token < len(self._pieces) else None

    def get_added_tokens_decoder(self) -> Mapping[int, AddedToken]:
        """The tokens that are matched whole, by id."""
        found = {self._ids[i]: token for i, token in self._finder.get_added_tokens_decoder().items()}
        return self._equal | found
