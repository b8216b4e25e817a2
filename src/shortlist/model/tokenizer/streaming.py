"""Turns tokens into text one at a time."""

import codecs

from shortlist.model.tokenizer.tokenizer import Tokenizer


class StreamDecoder:
    """Decodes tokens as they come: the pieces joined are what `Tokenizer.decode` makes of all tokens at once.

    Parameters
    ----------
    tokenizer
        Of the model that writes the tokens.
    skip_special
        Whether special tokens are left out, as in `Tokenizer.decode`.
    continues
        Whether the tokens follow on text that is already there, so that a space in front of the first word
        stays. `Tokenizer.decode` assumes the opposite.
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
        """What is left when no more tokens come: U+FFFD for a character that was cut off, mostly nothing."""
        return self._characters.decode(b"", final=True)
