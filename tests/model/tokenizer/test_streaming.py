import pytest
from hypothesis import given
from hypothesis import strategies as st
from model.tokenizer.vocabularies import byte_level, sentence_piece, texts

from shortlist.model.tokenizer.gguf import read_gguf
from shortlist.model.tokenizer.streaming import StreamDecoder
from shortlist.model.tokenizer.tokenizer import Tokenizer

TOKENIZERS = {
    "byte-level": Tokenizer(read_gguf(byte_level("gpt-2"), "test"), "test"),
    "sentencepiece": Tokenizer(read_gguf(sentence_piece(prefix=False)[0], "test"), "test"),
    "sentencepiece, space in front": Tokenizer(read_gguf(sentence_piece(prefix=True)[0], "test"), "test"),
}
every_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)


def streamed(decoder: StreamDecoder, ids: list[int]) -> list[str]:
    return [*(decoder.push(i) for i in ids), decoder.flush()]


@every_tokenizer
@pytest.mark.parametrize("skip_special", [True, False])
@given(st.data())
def test_pieces_join_to_what_decode_gives(tokenizer, skip_special, data):
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size), max_size=20))
    pieces = streamed(StreamDecoder(tokenizer, skip_special=skip_special), ids)
    assert "".join(pieces) == tokenizer.decode(ids, skip_special=skip_special)


@every_tokenizer
@given(texts)
def test_valid_text_never_shows_replacements(tokenizer, text):
    pieces = streamed(StreamDecoder(tokenizer), tokenizer.encode(text, add_special=False))
    assert "".join(pieces).count("\ufffd") == text.count("\ufffd")
    assert pieces[-1] == ""


def test_a_character_comes_with_its_last_byte():
    tokenizer = TOKENIZERS["byte-level"]
    ids = tokenizer.encode("🙂", add_special=False)
    assert len(ids) == 4
    assert streamed(StreamDecoder(tokenizer), ids) == ["", "", "", "🙂", ""]


def test_a_cut_character_is_flushed_as_a_replacement():
    tokenizer = TOKENIZERS["byte-level"]
    assert streamed(StreamDecoder(tokenizer), tokenizer.encode("🙂", add_special=False)[:3]) == [
        "",
        "",
        "",
        "\ufffd",
    ]


def test_text_that_continues_keeps_its_space():
    tokenizer = TOKENIZERS["sentencepiece, space in front"]
    ids = tokenizer.encode("the dog", add_special=False)
    assert "".join(streamed(StreamDecoder(tokenizer), ids)) == "the dog"
    assert "".join(streamed(StreamDecoder(tokenizer, continues=True), ids)) == " the dog"


def test_the_space_in_front_is_that_of_the_first_token_with_text():
    tokenizer = TOKENIZERS["sentencepiece, space in front"]
    nothing = tokenizer.vocab_size  # a row of the model that is no token
    assert tokenizer.token_bytes(nothing) == b""
    ids = [nothing, *tokenizer.encode("the dog", add_special=False)]
    assert "".join(streamed(StreamDecoder(tokenizer), ids)) == "the dog" == tokenizer.decode(ids)
