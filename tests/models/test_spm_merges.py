import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import models

from shortlist.models import spm_merges
from shortlist.models.spm_merges import cached_merges, merges_from_scores

LETTERS = "ab▁"


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


def with_merges(text: str, scores: dict[str, float]) -> list[str]:
    tokens = list(scores)
    pairs = merges_from_scores(tokens, np.array(list(scores.values())), np.arange(len(tokens)))
    merges = [(tokens[left], tokens[right]) for left, right in pairs]
    backend = Backend(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    return backend.encode(text).tokens


@st.composite
def scored_pieces(draw: st.DrawFn) -> dict[str, float]:
    pieces = draw(st.lists(st.text(LETTERS, min_size=2, max_size=6), unique=True, max_size=12))
    order = draw(st.permutations(range(len(pieces))))
    return {
        **dict.fromkeys(LETTERS, -1e3),
        **{piece: -float(rank) for piece, rank in zip(pieces, order, strict=True)},
    }


@given(scored_pieces(), st.text(LETTERS, max_size=30))
def test_merges_do_what_the_scores_say(scores, text):
    assert with_merges(text, scores) == sentencepiece_by_definition(text, scores)


@given(st.text(LETTERS, max_size=40))
def test_runs_of_one_score_grow_from_the_left(text):
    # Llama 2 and Mistral: all runs of spaces have the same score, below all other pieces.
    scores = {**dict.fromkeys(LETTERS, -1e3), "▁a": 0.0, **{"▁" * count: -1e9 for count in (2, 3, 4, 5, 8)}}
    assert with_merges(text, scores) == sentencepiece_by_definition(text, scores)


def test_one_merge_makes_each_piece():
    scores = {"a": 0.0, "b": 0.0, "c": 0.0, "ab": -1.0, "bc": -2.0, "abc": -3.0, "cba": -4.0}
    tokens = list(scores)
    pairs = merges_from_scores(tokens, np.array(list(scores.values())), np.arange(len(tokens)))
    # "a" + "bc" never meets, and nothing leads to "cba".
    assert [(tokens[a], tokens[b]) for a, b in pairs] == [("a", "b"), ("b", "c"), ("ab", "c")]


def test_absurdly_long_pieces_are_left_out():
    tokens = ["a", "a" * 1_000_000]
    assert merges_from_scores(tokens, np.zeros(2), np.arange(2)).shape == (0, 2)


class TestCache:
    arguments = (["a", "b", "ab"], np.array([0.0, 0.0, -1.0]), np.arange(3))

    def test_is_used(self, tmp_path, monkeypatch):
        file = tmp_path / "new" / "merges.npy"
        first = cached_merges(file, *self.arguments)
        monkeypatch.setattr(spm_merges, "merges_from_scores", None)
        np.testing.assert_array_equal(cached_merges(file, *self.arguments), first)
        assert [path.name for path in file.parent.iterdir()] == ["merges.npy"]

    @pytest.mark.parametrize(
        "damage",
        [
            lambda file: file.write_bytes(b""),
            lambda file: file.write_bytes(file.read_bytes()[:-3]),
            lambda file: file.write_bytes(b"\x93NUMPY" + bytes(100)),
            lambda file: np.save(file, np.array([[0, 7]], np.int32)),
            lambda file: np.save(file, np.array([[0.0, 1.0]])),
            lambda file: np.save(file, np.zeros((9, 2), np.int32)),
            lambda file: np.save(file, np.array([{}]), allow_pickle=True),
        ],
    )
    def test_is_written_anew_when_it_does_not_fit(self, tmp_path, damage):
        file = tmp_path / "merges.npy"
        first = np.array(cached_merges(file, *self.arguments))
        damage(file)
        np.testing.assert_array_equal(cached_merges(file, *self.arguments), first)
        np.testing.assert_array_equal(np.load(file), first)

    def test_can_be_missing(self, tmp_path):
        (tmp_path / "file").write_text("not a folder")
        assert len(cached_merges(tmp_path / "file" / "merges.npy", *self.arguments)) == 1
