"""Finds the start of a sample of a text: the beginning of a sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence

from shortlist.model.tokenizer.tokenizer import Tokenizer

SENTENCE = re.compile(
    r"""(?:[.!?…]["'”’)\]]*\s+ | \n\s*\n\s*)   # the end of another sentence, or an empty line
        (?=["'“‘(\[]*[^\W\d_a-z])              # a letter that is not a small one, maybe quoted""",
    re.VERBOSE,
)


def sentence_start(tokenizer: Tokenizer, tokens: Sequence[int], least: int) -> int:
    """The first token that begins a sentence and leaves at least `least` tokens; 0 where there is none.

    White space before the sentence may be part of that token.
    """
    pieces = [tokenizer.token_bytes(token).decode(errors="replace") for token in tokens]
    begins, end = {}, 0
    for index, piece in enumerate(pieces):
        if piece.strip():
            begins[end + len(piece) - len(piece.lstrip())] = index
        end += len(piece)
    places = (match.end() for match in SENTENCE.finditer("".join(pieces)))
    found = (begins[place] for place in places if place in begins)
    return next((index for index in found if index <= len(tokens) - least), 0)
