import re

import pytest

from shortlist.report.sample import sentence_start


class Words:
    """A tokenizer whose tokens are places in a list of pieces."""

    def __init__(self, text, pattern=r"\s?\S+|\s"):
        self.pieces = [piece.encode() for piece in re.findall(pattern, text)]

    def token_bytes(self, token):
        return self.pieces[token]


def start(text, least=1, pattern=r" ?[^\s]+|\s"):
    words = Words(text, pattern)
    found = sentence_start(words, list(range(len(words.pieces))), least)
    return b"".join(words.pieces[found:]).decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("and so on. The cat sat.", " The cat sat."),
        ("is it? Yes! No.", " Yes! No."),
        ('he said. "Come," she said.', ' "Come," she said.'),
        ("he left.) The end", " The end"),
        ("no more,\n\nROMEO:\nBut soft", "ROMEO:\nBut soft"),
        ("e.g. small letters. and 3. numbers", "e.g. small letters. and 3. numbers"),
        ("wie immer. Über den Rand", " Über den Rand"),
        ("v1. 2 is. No", " No"),
        ("no sentence here", "no sentence here"),
        ("Mr.X Said nothing", "Mr.X Said nothing"),
        ("", ""),
    ],
)
def test_a_sample_starts_at_a_sentence(text, expected):
    assert start(text) == expected


def test_a_sentence_with_too_little_behind_it_is_not_taken():
    assert start("a b. Cd ef gh", least=3) == " Cd ef gh"
    assert start("a b. Cd ef gh", least=4) == "a b. Cd ef gh"


def test_a_sentence_that_begins_inside_a_token_is_not_one():
    assert start("ab. Cd. Ef", pattern=r"ab\. C|d\.| Ef") == " Ef"


def test_parts_of_characters_do_no_harm():
    words = Words("")
    words.pieces = [b"\xe2", b"\x82", b"\xac", b".", b" ", b"Go", b" on"]
    assert sentence_start(words, list(range(7)), 1) == 5
