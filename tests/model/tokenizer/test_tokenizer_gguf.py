import unicodedata

import numpy as np
import pytest
from hypothesis import given
from model.tokenizer.vocabularies import CONTROL, TEXTS, byte_level, sentence_piece, texts
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from shortlist.errors import CheckpointError
from shortlist.model.tokenizer.gguf import read_gguf
from shortlist.model.tokenizer.pre_tokenizers import PRE_TOKENIZERS
from shortlist.model.tokenizer.tokenizer import Tokenizer


def tokenizer_of(metadata) -> Tokenizer:
    return Tokenizer(read_gguf(metadata, "MODEL"), "MODEL")


# What the tokenizer.json of a model of each kind says, word for word.
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
NEMO = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
FOLDERS = {
    "gpt-2": (None, GPT2),
    "smollm": (None, pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2])),
    "llama-bpe": (None, LLAMA3),
    "qwen2": (normalizers.NFC(), QWEN2),
    "tekken": (None, NEMO),
}


def folder_backend(metadata, pre: str) -> Backend:
    normalizer, rules = FOLDERS[pre]
    tokens = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    backend = Backend(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    if normalizer:
        backend.normalizer = normalizer
    if isinstance(rules, str):
        split = pre_tokenizers.Split(Regex(rules), behavior="isolated")
        rules = pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    backend.pre_tokenizer = rules
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    backend.add_tokens(["<tool>", "</tool>"])
    return backend


class TestByteLevel:
    @pytest.mark.parametrize("pre", FOLDERS)
    @pytest.mark.parametrize("parse_special", [True, False])
    def test_equals_the_folder_of_the_same_model(self, pre, parse_special):
        metadata = byte_level(pre)
        ours, theirs = tokenizer_of(metadata), folder_backend(metadata, pre)
        theirs.encode_special_tokens = not parse_special

        def check(text):
            ids = ours.encode(text, add_special=False, parse_special=parse_special)
            assert ids == theirs.encode(text, add_special_tokens=False).ids

        given(texts)(check)()
        for text in TEXTS:
            check(text)

    @pytest.mark.parametrize("pre", PRE_TOKENIZERS)
    def test_text_comes_back(self, pre):
        tokenizer = tokenizer_of(byte_level(pre))
        for text in TEXTS:
            expected = unicodedata.normalize("NFC", text) if pre == "qwen2" else text
            assert tokenizer.decode(tokenizer.encode(text)) == expected

    def test_without_rules_those_of_gpt2_hold(self):
        metadata = byte_level("gpt-2")
        del metadata["tokenizer.ggml.pre"]
        assert tokenizer_of(metadata).encode("it's 1999") == tokenizer_of(byte_level("gpt-2")).encode(
            "it's 1999"
        )

    def test_whole_words_need_no_merges(self):
        metadata = {**byte_level("llama-bpe"), "tokenizer.ggml.merges": ["t h"]}
        word = metadata["tokenizer.ggml.tokens"].index("Ġthe")
        assert tokenizer_of(metadata).encode(" the", add_special=False) == [word]
        assert len(tokenizer_of({**metadata, "tokenizer.ggml.pre": "gpt-2"}).encode(" the")) > 1

    @pytest.mark.parametrize(("pre", "starts"), [("llama-bpe", True), ("tekken", True), ("qwen2", False)])
    def test_some_kinds_start_texts_with_bos(self, pre, starts):
        tokenizer = tokenizer_of(byte_level(pre))
        assert (tokenizer.encode("a")[0] == tokenizer.bos_id) is starts


class TestSentencePiece:
    @pytest.mark.parametrize(
        ("prefix", "user_defined"),
        [(True, ()), (False, ()), (False, ("▁▁", "▁▁▁", "▁▁▁▁▁", "\n", "\n\n", "<tool>", "</tool>"))],
        ids=["llama", "no space in front", "gemma"],
    )
    def test_equals_sentencepiece(self, prefix, user_defined):
        metadata, processor = sentence_piece(prefix=prefix, user_defined=user_defined)
        tokenizer = tokenizer_of(metadata)

        def check(text):
            ids = tokenizer.encode(text, add_special=False)
            assert ids == processor.encode(text)
            assert tokenizer.decode(ids) == text.replace("▁", " ")

        given(texts)(check)()
        for text in TEXTS:
            check(text)

    def test_starts_texts_with_bos(self):
        tokenizer = tokenizer_of(sentence_piece(prefix=True)[0])
        assert tokenizer.encode("") == [1]
        assert tokenizer.encode("a")[0] == 1

    def test_special_tokens_follow_llama_cpp(self):
        # A space is put in front of what follows a special token, too.
        tokenizer = tokenizer_of(sentence_piece(prefix=True)[0])
        ids = tokenizer.encode("</s>the", add_special=False, parse_special=True)
        assert [tokenizer.token_bytes(i) for i in ids] == [b"</s>", b" the"]

    def test_control_tokens_cannot_be_merged_from_text(self):
        metadata, _ = sentence_piece(prefix=False)
        tokens, scores = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.scores"]
        # Pieces from which "<s>" could be put together, if it were a piece like others.
        for piece in ("<s", "s>"):
            tokens, scores = [*tokens, piece], np.append(scores, np.float32(0))
        types = np.append(metadata["tokenizer.ggml.token_type"], [1, 1])
        changed = {"tokens": tokens, "scores": scores, "token_type": types}
        tokenizer = tokenizer_of(
            {**metadata, **{f"tokenizer.ggml.{key}": value for key, value in changed.items()}}
        )
        assert 1 not in tokenizer.encode("<s>", add_special=False)
        assert tokenizer.encode("<s>", add_special=False, parse_special=True) == [1]


class TestSpecialTokens:
    def test_in_text_are_text(self):
        tokenizer = tokenizer_of(byte_level("gpt-2"))
        ids = tokenizer.encode("<|im_end|>")
        assert not tokenizer.special_ids & set(ids)
        assert tokenizer.decode(ids) == "<|im_end|>"
        assert tokenizer.encode("<|im_end|>", parse_special=True) == [396]

    def test_user_defined_ones_are_always_matched(self):
        tokenizer = tokenizer_of(byte_level("gpt-2"))
        assert tokenizer.encode("<tool>") == [397]
        assert tokenizer.decode([397]) == "<tool>"

    def test_end_tokens(self):
        tokenizer = tokenizer_of(byte_level("gpt-2", eot_token_id=7))
        assert tokenizer.eos_ids == {7, 394, 396}
        assert tokenizer.bos_id == 394
        assert tokenizer.special_ids == {7, 394, 395, 396}

    def test_end_tokens_are_special_whatever_their_type(self):
        metadata = byte_level("gpt-2")
        metadata["tokenizer.ggml.token_type"][:] = 1
        assert 396 not in tokenizer_of(metadata).encode("<|im_end|>")
        del metadata["tokenizer.ggml.token_type"]
        assert tokenizer_of(metadata).encode("<|im_end|>", parse_special=True) == [396]

    def test_around_a_text(self):
        tokenizer = tokenizer_of(byte_level("gpt-2", add_bos_token=True, add_eos_token=True))
        assert tokenizer.encode("") == [394, 396]
        assert tokenizer.encode("", add_special=False) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "bert"}, "is of the kind 'bert', which is not supported; supported are gpt2 .* and llama"),
        ({"model": None}, "is of the kind None"),
        (
            {"pre": "klingon"},
            "has the pre-tokenizer 'klingon', which is not supported; supported are default, gpt-2, smollm",
        ),
        ({"tokens": None}, "has no usable list tokenizer.ggml.tokens"),
        ({"tokens": np.arange(3)}, "has no usable list tokenizer.ggml.tokens"),
        ({"token_type": np.ones(3, np.int32)}, "has 400 tokens, but 3 token_type"),
        ({"token_type": ["a"] * 400}, "has no usable list tokenizer.ggml.token_type"),
        ({"merges": None}, "has no usable list tokenizer.ggml.merges"),
        ({"merges": ["t h", "th"]}, "has merges of what is not in its vocabulary"),
        ({"merges": ["zq xj"]}, "has merges of what is not in its vocabulary"),
        ({"merges": ["q q"]}, "has merges of what is not in its vocabulary"),
        ({"eos_token_id": True}, "says that eos_token_id is True, which is no token"),
        ({"bos_token_id": "x"}, "says that bos_token_id is 'x'"),
        ({"bos_token_id": None, "add_bos_token": True}, "is to use a bos_token_id, but names none"),
        ({"model": "llama"}, "has no usable list tokenizer.ggml.scores"),
        ({"model": "llama", "scores": np.zeros(2, np.float32)}, "has 400 tokens, but 2 scores"),
    ],
)
def test_bad_metadata_is_named(changes, message):
    metadata = {**byte_level("gpt-2"), **{f"tokenizer.ggml.{key}": value for key, value in changes.items()}}
    with pytest.raises(CheckpointError, match=f"the tokenizer of MODEL {message}"):
        read_gguf(metadata, "MODEL")


BEYOND = "the tokenizer of the file: {} is {}, beyond the 400 tokens: {} is used"


@pytest.mark.parametrize("key", ["eos_token_id", "padding_token_id", "mask_token_id", "unknown_token_id"])
@pytest.mark.parametrize("value", [400, 2**32 - 1, -1])
def test_special_tokens_beyond_the_vocabulary_are_none(key: str, value: int):
    metadata = byte_level("gpt-2")
    del metadata["tokenizer.ggml.eos_token_id"]
    parts = read_gguf({**metadata, f"tokenizer.ggml.{key}": value}, "MODEL")
    without = read_gguf(metadata, "MODEL")
    assert parts.notes == (BEYOND.format(key, value, "no token"),)
    assert (parts.eos_ids, parts.names, parts.bos_id) == (without.eos_ids, without.names, without.bos_id)
    assert without.notes == ()


def test_the_last_token_is_not_beyond():
    metadata = {**byte_level("gpt-2"), "tokenizer.ggml.padding_token_id": 399}
    parts = read_gguf(metadata, "MODEL")
    assert parts.notes == ()
    assert parts.names["pad_token"] == metadata["tokenizer.ggml.tokens"][399]


def test_sentencepiece_has_tokens_for_what_is_beyond():
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": np.zeros(len(tokens), np.float32),
        "tokenizer.ggml.token_type": np.array([2, 3, 3] + [6] * 256, np.int32),
        "tokenizer.ggml.bos_token_id": 1000,
    }
    parts = read_gguf(metadata, "MODEL")
    assert parts.bos_id == 1
    assert parts.notes == (
        "the tokenizer of the file: bos_token_id is 1000, beyond the 259 tokens: token 1 is used",
    )


def test_empty_and_equal_tokens_are_noted():
    metadata = byte_level("gpt-2")
    tokens = list(metadata["tokenizer.ggml.tokens"])
    at = len(tokens) - 3
    special, types = tokens[394], np.array(metadata["tokenizer.ggml.token_type"])
    tokens[at:] = ["", "", special]
    types[at:] = [1, 1, types[394]]
    changed = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types}
    parts = read_gguf({**metadata, **changed}, "MODEL")
    assert parts.notes == (
        f"the tokenizer of the file: token {at + 1} is empty",
        "the tokenizer of the file: 2 tokens are equal to later ones, which texts become instead",
    )
    tokenizer = Tokenizer(parts, "MODEL")
    assert tokenizer.encode(special, add_special=False, parse_special=True) == [at + 2]
    assert {394, at + 2} <= tokenizer.special_ids
    assert tokenizer.encode("the", add_special=False) == tokenizer_of(metadata).encode(
        "the", add_special=False
    )


def test_a_list_that_is_too_long_is_cut():
    metadata = byte_level("gpt-2")
    types = np.append(np.array(metadata["tokenizer.ggml.token_type"]), [3, 3]).astype(np.int32)
    parts = read_gguf({**metadata, "tokenizer.ggml.token_type": types}, "MODEL")
    assert parts.notes == (
        "the tokenizer of the file: there are 400 tokens, but 402 token_type; the rest is ignored",
    )


def test_types_are_those_of_the_format():
    assert CONTROL == 3


@pytest.mark.parametrize("pre", ["dbrx", "smaug-bpe"])
def test_digits_are_cut_in_triples(pre: str):
    words = [word for word, _ in PRE_TOKENIZERS[pre].cut().pre_tokenize_str("a 12345")]
    assert words == ["a", "Ġ", "123", "45"]
