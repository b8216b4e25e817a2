import pytest
from hypothesis import given
from hypothesis import strategies as st
from model.tokenizer.library_backend import library_backend
from model.tokenizer.vocabularies import TEXTS, byte_level, sentence_piece
from tokenizers import AddedToken, decoders, models
from tokenizers import Tokenizer as Backend

from shortlist.errors import CheckpointError
from shortlist.model.tokenizer.token_bytes import TokenBytes

BYTE_LEVEL = library_backend(byte_level("gpt-2"))
SENTENCE_PIECE = library_backend(sentence_piece(prefix=False)[0])


@pytest.mark.parametrize("backend", [BYTE_LEVEL, SENTENCE_PIECE])
def test_every_byte_has_a_token(backend):
    token_bytes = TokenBytes(backend, backend.get_vocab_size(), "test")
    single = {token_bytes(i) for i in range(backend.get_vocab_size())}
    assert {bytes([byte]) for byte in range(256)} <= single


@given(st.lists(st.integers(0, BYTE_LEVEL.get_vocab_size() - 1), max_size=12))
def test_byte_level_tokens_join_to_what_the_library_decodes(ids):
    token_bytes = TokenBytes(BYTE_LEVEL, 400, "test")
    joined = b"".join(map(token_bytes, ids)).decode("utf-8", "replace")
    assert joined == BYTE_LEVEL.decode(ids, skip_special_tokens=False)


@given(st.lists(st.integers(0, SENTENCE_PIECE.get_vocab_size() - 1), max_size=12))
def test_sentencepiece_tokens_join_to_what_the_library_decodes(ids):
    token_bytes = TokenBytes(SENTENCE_PIECE, SENTENCE_PIECE.get_vocab_size(), "test")
    joined = b"".join(map(token_bytes, ids)).decode("utf-8", "replace")
    decoded = SENTENCE_PIECE.decode(ids, skip_special_tokens=False)
    if "\ufffd" in joined:
        # The library gives up a whole run of byte tokens when one is wrong; a stream cannot take text back.
        assert "\ufffd" in decoded
    else:
        assert joined == decoded


@pytest.mark.parametrize("backend", [BYTE_LEVEL, SENTENCE_PIECE])
@pytest.mark.parametrize("text", TEXTS)
def test_texts_come_back(backend, text):
    token_bytes = TokenBytes(backend, backend.get_vocab_size(), "test")
    ids = backend.encode(text, add_special_tokens=False).ids
    expected = text if backend is BYTE_LEVEL else text.replace("▁", " ")
    assert b"".join(map(token_bytes, ids)).decode() == expected


def test_added_tokens_stand_for_their_text():
    backend = Backend(models.BPE({"<": 0}, []))
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken("<é>", normalized=False)])  # "é" is also how byte 0xE9 is spelled
    assert TokenBytes(backend, backend.get_vocab_size(), "test")(1) == "<é>".encode()


@pytest.mark.parametrize("token", [-1, 400, 1 << 40])
def test_other_ids_stand_for_nothing(token):
    assert TokenBytes(BYTE_LEVEL, 400, "test")(token) == b""


@pytest.mark.parametrize(
    ("decoder", "strips"),
    [
        (decoders.Metaspace(), True),
        (decoders.Metaspace(prepend_scheme="never"), False),
        (decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]), True),
        (decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()]), False),
    ],
)
def test_the_space_of_the_decoder(decoder, strips):
    backend = Backend(models.BPE({"a": 0}, []))
    backend.decoder = decoder
    assert TokenBytes(backend, backend.get_vocab_size(), "test").strips_space is strips


@pytest.mark.parametrize(("decoder", "kind"), [(decoders.WordPiece(), "WordPiece"), (None, "nothing")])
def test_other_decoders_are_named(decoder, kind):
    backend = Backend(models.BPE({"a": 0}, []))
    if decoder:
        backend.decoder = decoder
    with pytest.raises(
        CheckpointError, match=f"tokenizer of MODEL is decoded by {kind}, .* supported are byte-level"
    ):
        TokenBytes(backend, 1, "MODEL")
