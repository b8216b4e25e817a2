"""Decodes tokens to text one at a time."""

import codecs

from shortlist.model.tokenizer.tokenizer import Tokenizer


class StreamDecoder:
    """Decodes tokens one by one; the joined pieces equal `Tokenizer.decode` of all tokens.

    Parameters
    ----------
    tokenizer
        The tokenizer of the model.
    skip_special
        Whether special tokens are left out, as in `Tokenizer.decode`.
    continues
        Whether the tokens continue an existing text, so that a space before the first word is kept.
        `Tokenizer.decode` assumes the opposite.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True, continues: bool = False):
        self._tokenizer = tokenizer
        self._skip = tokenizer.special_ids if skip_special else frozenset()
        self._strip = tokenizer.strips_space and not continues
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The characters that `token` completes: maybe none, never half a character."""
        if token in self._skip:
            return ""
        data = self._tokenizer.token_bytes(token)
        if self._strip and data:
            self._strip = False
            data = data.removeprefix(b" ")
        return self._characters.decode(data)

    def flush(self) -> str:
        """The rest after the last token: U+FFFD for an incomplete character, mostly empty."""
        return self._characters.decode(b"", final=True)
