import pytest
from hypothesis import given
from model.tokenizer.library_backend import library_backend
from model.tokenizer.vocabularies import TEXTS, byte_level, sentence_piece, texts
from tokenizers import AddedToken

from shortlist.model.tokenizer.compact_backend import CompactBackend
from shortlist.model.tokenizer.gguf import read_gguf
from shortlist.model.tokenizer.pre_tokenizers import PRE_TOKENIZERS

RUNS = ("▁▁", "▁▁▁", "▁▁▁▁▁", "\n", "\n\n", "<tool>", "</tool>")
VOCABULARIES = {
    **{pre: byte_level(pre, add_bos_token=False) for pre in PRE_TOKENIZERS},
    "llama": sentence_piece(prefix=True)[0],
    "no space in front": sentence_piece(prefix=False)[0],
    "gemma": sentence_piece(prefix=False, user_defined=RUNS)[0],
}


def compact(metadata) -> CompactBackend:
    backend = read_gguf(metadata, "test").backend
    assert isinstance(backend, CompactBackend)
    return backend


@pytest.mark.parametrize("parse_special", [True, False])
@pytest.mark.parametrize("name", VOCABULARIES)
def test_equals_the_library(name, parse_special):
    ours, theirs = compact(VOCABULARIES[name]), library_backend(VOCABULARIES[name])
    ours.encode_special_tokens = theirs.encode_special_tokens = not parse_special

    def check(text):
        for add_special in (True, False):
            ids = ours.encode(text, add_special_tokens=add_special).ids
            assert ids == theirs.encode(text, add_special_tokens=add_special).ids

    given(texts)(check)()
    for text in TEXTS:
        check(text)


@pytest.mark.parametrize("name", ["gpt-2", "llama", "gemma"])
def test_whole_tokens_are_where_the_library_finds_them(name):
    ours, theirs = compact(VOCABULARIES[name]), library_backend(VOCABULARIES[name])
    whole = ours.get_added_tokens_decoder()
    for text in TEXTS:
        found, expected = ours.encode(text), theirs.encode(text)
        places = zip(found.ids, found.offsets, expected.offsets, strict=True)
        for token, place, library_place in places:
            assert place == (library_place if token in whole and place != (0, 0) else (0, 0))


def test_a_token_that_is_added_later():
    backend = compact(VOCABULARIES["gpt-2"])
    before = backend.encode("ab").ids
    for number, content in enumerate(["<x>", "<y>"]):
        backend.add_tokens([AddedToken(content, normalized=False)])
        assert backend.token_to_id(content) == 400 + number
    assert backend.encode("ab<y>ab<x>").ids == [*before, 401, *before, 400]
    assert backend.token_to_id("<|im_end|>") == 396
    assert backend.token_to_id("<z>") is None


def test_ids_and_pieces():
    backend = compact(VOCABULARIES["gpt-2"])
    assert [backend.id_to_token(i) for i in (-1, 396, 400)] == [None, "<|im_end|>", None]
    assert backend.get_added_tokens_decoder()[397].content == "<tool>"
