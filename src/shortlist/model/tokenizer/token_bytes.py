"""Maps the tokens of a vocabulary to bytes.

There are two spellings. Byte-level vocabularies (GPT-2) write each byte as one printable character.
SentencePiece vocabularies write U+2581 for the space, and `<0xE2>` for a byte that no piece covers.
"""

import json
import re

from tokenizers import Tokenizer as Backend

from shortlist.errors import CheckpointError
from shortlist.model.tokenizer.compact_backend import CompactBackend

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _byte_level_alphabet() -> dict[str, int]:
    # GPT-2's table: printable bytes are their own characters, the others are characters from U+0100 on.
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTE_OF = _byte_level_alphabet()


class TokenBytes:
    """Returns a token's bytes, equal to the output of the decoder of a `tokenizers.Tokenizer`.

    The bytes of an added token, special or not, are the text that it matches.

    Parameters
    ----------
    backend
        The backend with vocabulary and decoder.
    size
        The largest id plus 1.
    name
        Name of the checkpoint, for messages.

    Attributes
    ----------
    strips_space : bool
        Whether encoding puts a space at the start of a text, which decoding must remove.

    Raises
    ------
    CheckpointError
        The decoder is of neither kind.
    """

    def __init__(self, backend: Backend | CompactBackend, size: int, name: str):
        steps = _decoder_steps(backend)
        kinds = {step["type"] for step in steps}
        self.byte_level = "ByteLevel" in kinds
        if not self.byte_level and not kinds & {"ByteFallback", "Metaspace"}:
            raise CheckpointError(
                f"the tokenizer of {name} is decoded by {', '.join(sorted(kinds)) or 'nothing'}, "
                "which is not supported; supported are byte-level and SentencePiece BPE"
            )
        self.strips_space = any(
            (step["type"] == "Strip" and step["content"] == " " and step["start"] > 0)
            or (step["type"] == "Metaspace" and step.get("prepend_scheme", "always") != "never")
            for step in steps
        )
        self._backend = backend
        self._size = size
        self._added = frozenset(backend.get_added_tokens_decoder())

    def __call__(self, token: int) -> bytes:
        """The bytes of a token; empty for an unknown id."""
        if not 0 <= token < self._size or (piece := self._backend.id_to_token(token)) is None:
            return b""
        added = token in self._added
        if self.byte_level:
            if added or not all(character in _BYTE_OF for character in piece):
                return piece.encode()
            return bytes(_BYTE_OF[character] for character in piece)
        if not added and (match := _BYTE_TOKEN.fullmatch(piece)):
            return bytes([int(match[1], 16)])
        return piece.replace("▁", " ").encode()


def _decoder_steps(backend: Backend | CompactBackend) -> list[dict]:
    # The library has no other way to find the kind of a decoder.
    decoder = (
        json.loads(backend.decoder.__getstate__())
        if backend.decoder
        else {"type": "Sequence", "decoders": []}
    )
    return decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
