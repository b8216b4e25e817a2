"""Byte-pair encoding against its definition, and what is refused."""

import itertools
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import models

from shortlist._native import Bpe, Strings, Vocabulary, skip_strings

LETTERS = "ab▁"


def by_scores(scores: dict[str, float], unknown: int = -1) -> Bpe:
    vocabulary = Vocabulary(Strings(list(scores)))
    return Bpe.from_scores(vocabulary, np.array(list(scores.values()), np.float32), unknown)


def stored(strings: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(struct.pack("<Q", len(s)) + s for s in strings), np.uint8)


def sentencepiece_by_definition(text: str, scores: dict[str, float]) -> list[str]:
    """Join the best-scored neighbours, the leftmost of equals, until no union is a piece."""
    parts = list(text)
    while True:
        unions = [
            (-scores[a + b], i) for i, (a, b) in enumerate(itertools.pairwise(parts)) if a + b in scores
        ]
        if not unions:
            return parts
        _, i = min(unions)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


class TestStrings:
    @given(st.lists(st.text(max_size=5)), st.binary(max_size=9))
    def test_come_back(self, strings, rest):
        data = np.concatenate([stored([s.encode() for s in strings]), np.frombuffer(rest, np.uint8)])
        assert list(Strings.read(data, len(strings))) == strings
        assert list(Strings(strings)) == strings
        assert skip_strings(data, len(strings)) == len(data) - len(rest)

    @given(st.binary(max_size=6))
    def test_are_utf8(self, content):
        try:
            content.decode()
        except UnicodeDecodeError:
            with pytest.raises(ValueError, match="string 1 is not UTF-8"):
                Strings.read(stored([b"a", content]), 2)
        else:
            assert Strings.read(stored([b"a", content]), 2)[1] == content.decode()

    @pytest.mark.parametrize(
        "code", [0xD7FF, 0xD800, 0xDFFF, 0xE000, 0x7FF, 0x800, 0xFFFF, 0x10000, 0x10FFFF]
    )
    def test_at_the_limits_of_utf8(self, code):
        content = chr(code).encode("utf-8", "surrogatepass")
        if 0xD800 <= code < 0xE000:
            with pytest.raises(ValueError, match="string 0 is not UTF-8"):
                Strings.read(stored([content]), 1)
        else:
            assert list(Strings.read(stored([content]), 1)) == [chr(code)]

    @pytest.mark.parametrize("data", [b"", b"\1", struct.pack("<Q", 2) + b"a", struct.pack("<Q", 2**64 - 1)])
    def test_that_are_cut_short(self, data):
        array = np.frombuffer(data, np.uint8)
        for read in (Strings.read, skip_strings):
            with pytest.raises(ValueError, match="cut short"):
                read(array, 1)


class TestVocabulary:
    @given(st.lists(st.text(max_size=4), unique=True, max_size=50), st.text(max_size=4))
    def test_finds_what_is_in_it(self, pieces, other):
        vocabulary = Vocabulary(Strings(pieces))
        assert [vocabulary.find(piece) for piece in pieces] == list(range(len(pieces)))
        assert vocabulary.find(other) == (pieces.index(other) if other in pieces else -1)

    def test_of_equal_pieces_the_last_is_found(self):
        vocabulary = Vocabulary(Strings(["a", "b", "a", "", "a", ""]))
        assert [vocabulary.find(piece) for piece in ("a", "b", "")] == [4, 1, 5]
        assert vocabulary.repeated == 3
        assert Vocabulary(Strings(["a", "b"])).repeated == 0


@st.composite
def scored_pieces(draw: st.DrawFn) -> dict[str, float]:
    pieces = draw(st.lists(st.text(LETTERS, min_size=2, max_size=6), unique=True, max_size=12))
    order = draw(st.permutations(range(len(pieces))))
    return {
        **dict.fromkeys(LETTERS, -1e3),
        **{piece: -float(rank) for piece, rank in zip(pieces, order, strict=True)},
    }


class TestScores:
    @given(scored_pieces(), st.text(LETTERS, max_size=30))
    def test_the_best_neighbours_are_joined(self, scores, text):
        pieces = list(scores)
        ids = by_scores(scores).encode([text])
        assert [pieces[i] for i in ids] == sentencepiece_by_definition(text, scores)

    @given(st.text(LETTERS, max_size=40))
    def test_runs_of_one_score_grow_from_the_left(self, text):
        # Llama 2 and Mistral: all runs of spaces have the same score, below all other pieces.
        runs = {"▁" * count: -1e9 for count in (2, 3, 4, 5, 8)}
        scores = {**dict.fromkeys(LETTERS, -1e3), "▁a": 0.0, **runs}
        pieces = list(scores)
        ids = by_scores(scores).encode([text])
        assert [pieces[i] for i in ids] == sentencepiece_by_definition(text, scores)

    def test_pieces_that_text_is_not_merged_into(self):
        assert by_scores({"a": 0.0, "b": 0.0, "ab": -np.inf}).encode(["ab"]) == [0, 1]

    def test_unknown_characters(self):
        scores = {"a": 0.0, "?": 0.0}
        assert by_scores(scores, unknown=1).encode(["é日aé"]) == [1, 0, 1]
        assert by_scores(scores).encode(["éaé"]) == [0]
        with_bytes = {**{f"<0x{byte:02X}>": -np.inf for byte in range(256)}, "a": 0.0}
        assert by_scores(with_bytes, unknown=0).encode(["aé"]) == [256, *"é".encode()]

    def test_a_score_for_each_piece(self):
        with pytest.raises(ValueError, match="each piece needs one score"):
            Bpe.from_scores(Vocabulary(Strings(["a"])), np.zeros(2, np.float32))


@st.composite
def merges(draw: st.DrawFn) -> list[tuple[str, str]]:
    known, pairs = list("abc"), []
    for _ in range(draw(st.integers(0, 10))):
        pair = draw(st.sampled_from(known)), draw(st.sampled_from(known))
        if pair not in pairs:
            pairs.append(pair)
            known.append("".join(pair))
    return pairs


class TestMerges:
    @given(merges(), st.booleans(), st.lists(st.text("abcd", max_size=12), max_size=3))
    def test_equal_those_of_the_library(self, pairs, whole_words, words):
        pieces = list(dict.fromkeys([*"abc", *("".join(pair) for pair in pairs)]))
        ids = {piece: i for i, piece in enumerate(pieces)}
        library = Backend(models.BPE(ids, pairs, ignore_merges=whole_words))
        ours = Bpe.from_merges(
            Vocabulary(Strings(pieces)), Strings([f"{a} {b}" for a, b in pairs]), whole_words
        )
        assert ours.encode(words) == [i for word in words for i in library.encode(word).ids]

    @pytest.mark.parametrize("merge", ["a", "", "a c", "c a", "b b"])
    def test_of_what_is_not_in_the_vocabulary(self, merge):
        with pytest.raises(ValueError, match="merge 1 is of what is not in the vocabulary"):
            Bpe.from_merges(Vocabulary(Strings(["a", "b", "ab"])), Strings(["a b", merge]))
