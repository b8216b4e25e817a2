"""Small trained vocabularies, as the metadata of a GGUF file, and the texts that they are tried on."""

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import sentencepiece
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, trainers

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = (
    int(getattr(gguf.TokenType, kind))
    for kind in ("NORMAL", "UNKNOWN", "CONTROL", "USER_DEFINED", "UNUSED", "BYTE")
)

TEXTS = [
    "",
    *("a", " a", "  a", "a ", "a  ", " ", "   ", "\n", "\n\n\n", " \n", "\t", "\t\t", "a\tb\r\n", "\r\n\r\n"),
    "Hello, world! It's what they've SAID, isn't it? I'LL see.",
    "  spaces   in    front, between and behind   ",
    *("a" + " " * count + "b" for count in (2, 16, 31, 32, 40)),
    *("7", "12", "123", "1234567", "1 22 333", "3.14159e-10", "½ ² Ⅷ ٣٤ 五"),
    "def f(x):\n    return x**2  # comment\n\n\tif a != b:\n\t\tpass\n",
    '{"a": [1, 2, {"b": null}]} <h1>Title</h1> https://example.com/?q=%20#x',
    *("🙂", "a🙂b", "👨‍👩‍👧‍👦", "👍🏽", "🏳️‍🌈🇩🇪", "𝕳𝖊𝖑𝖑𝖔"),
    *("日本語のテキスト。", "中文，测试", "한국어 텍스트", "ไทย", "हिन्दी"),
    *("مرحبا world שלום", "e\u0301 é n\u0303", "Z\u0338a\u0337l\u0334", "\u1100\u1161\u11a8"),
    *(
        "\ufeffbom",
        "\u00a0nbsp\u3000wide\u2028",
        "a\u200bb\u200dc",
        "\x00a\x01\x7f",
        "\ufffd",
        "\U0010ffff\ue000",
    ),
    *(
        "▁",
        "a▁b",
        "Ġ Ċ",
        "<0x41>",
        "<s>a</s>",
        "<unk>",
        "</s",
        "<|im_end|>",
        "<|im_start|>user\nhi<|im_end|>\n",
    ),
    "<tool>x</tool> <tool>",
    "!!!???... ------------------------------ ====",
    "camelCase snake_case SHOUT ÜBER straße ﬁ",
]

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""The chat template of SmolLM2, Qwen and others, without their system prompts."""

_FRAGMENTS = [
    "the ",
    " a",
    "ing",
    "  ",
    "\n",
    "12",
    "é",
    "e\u0301",
    "🙂",
    "日",
    "<|im_end|>",
    "</s>",
    "<tool>",
    "'s",
    "\r\n",
]
texts = st.one_of(
    st.text(max_size=20), st.lists(st.sampled_from(_FRAGMENTS) | st.text(max_size=3)).map("".join)
)
"""Texts of any characters, and of fragments that tokenizers have rules for."""

_TRAINING = [
    "The quick brown fox jumps over the lazy dog, and the dog sleeps in the sun all the day.",
    "In the beginning there was nothing but the thing that they were thinking of while singing.",
    "def function(x):    return x + 1  # it is what it is; that's what they've said, isn't it?",
    "Hello, world! Hello there, how are you? I'll be fine, thanks, he'd say: 1999 and 2024.",
    "Größe, naïve, café, über, señor. 日本語 中文 한국어 שלום مرحبا",
] * 4


def byte_level(pre: str, **keys: Any) -> dict[str, Any]:
    """A byte-level BPE vocabulary of 400 tokens; the special ones are its last."""
    tokens, merges = _trained_byte_level()
    added = {
        "<|endoftext|>": CONTROL,
        "<|im_start|>": CONTROL,
        "<|im_end|>": CONTROL,
        "<tool>": USER_DEFINED,
        "</tool>": USER_DEFINED,
        "[PAD399]": UNUSED,
    }
    return _metadata(
        model="gpt2",
        pre=pre,
        tokens=[*tokens, *added],
        token_type=np.array([NORMAL] * len(tokens) + list(added.values()), np.int32),
        merges=list(merges),
        bos_token_id=len(tokens),
        eos_token_id=len(tokens) + 2,
        **keys,
    )


@cache
def _trained_byte_level() -> tuple[list[str], list[str]]:
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        _TRAINING, trainers.BpeTrainer(vocab_size=394, initial_alphabet=alphabet, show_progress=False)
    )
    vocabulary = backend.get_vocab()
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    # The library has no other way to ask a model for its merges.
    merges = json.loads(backend.to_str())["model"]["merges"]
    return tokens, [" ".join(pair) for pair in merges]


def sentence_piece(*, prefix: bool, user_defined: tuple[str, ...] = ()) -> tuple[dict[str, Any], Any]:
    """A SentencePiece BPE vocabulary as llama.cpp's converter writes it, and the processor it is from."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_TRAINING),
        model_writer=model,
        model_type="bpe",
        vocab_size=520,
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=prefix,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        user_defined_symbols=list(user_defined),
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(processor.vocab_size())

    def kind(i: int) -> int:
        if processor.id_to_piece(i) in user_defined:
            return USER_DEFINED
        if processor.is_byte(i):
            return BYTE
        return CONTROL if processor.is_control(i) else UNKNOWN if processor.is_unknown(i) else NORMAL

    kinds = [kind(i) for i in ids]
    pieces = [processor.id_to_piece(i) for i in ids]
    return _metadata(
        model="llama",
        tokens=[p.replace("▁", " ") if k == USER_DEFINED else p for p, k in zip(pieces, kinds, strict=True)],
        scores=np.array([processor.get_score(i) for i in ids], np.float32),
        token_type=np.array(kinds, np.int32),
        bos_token_id=1,
        eos_token_id=2,
        unknown_token_id=0,
        add_space_prefix=prefix,
    ), processor


def write_gguf(path: Path, architecture: str, metadata: dict[str, Any]) -> None:
    """Write a GGUF file that has a tokenizer and nothing else."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in metadata.items():
        match value:
            case bool():
                writer.add_bool(key, value)
            case int():
                writer.add_uint32(key, value)
            case str():
                writer.add_string(key, value)
            case _:
                writer.add_array(key, list(value) if isinstance(value, list) else value.tolist())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _metadata(**keys: Any) -> dict[str, Any]:
    return {f"tokenizer.ggml.{key}": value for key, value in keys.items()}
