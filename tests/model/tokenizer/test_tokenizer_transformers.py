"""The tokenizers of GGUF files against those that `transformers` makes of the same files.

Where the two differ, the model's own tokenizer agrees with ours; each such place is named in a test.
"""

import unicodedata
from pathlib import Path

import pytest
from model.tokenizer.vocabularies import TEXTS, byte_level, sentence_piece, write_gguf

from shortlist.model.tokenizer.gguf import read_gguf
from shortlist.model.tokenizer.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")


def both(folder: Path, architecture: str, metadata):
    write_gguf(folder / "model.gguf", architecture, metadata)
    theirs = transformers.AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf")
    return Tokenizer(read_gguf(metadata, "model"), "model"), theirs


def differences(ours: Tokenizer, theirs, parse_special: bool) -> list[str]:
    return [
        text
        for text in TEXTS
        if ours.encode(text, parse_special=parse_special)
        != theirs.encode(text, split_special_tokens=not parse_special)
    ]


@pytest.mark.parametrize("parse_special", [True, False])
@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "tekken", "qwen2"])
def test_byte_level(tmp_path, pre, parse_special):
    ours, theirs = both(tmp_path, "llama", byte_level(pre, add_bos_token=False))
    expected = []
    if pre == "qwen2":  # they leave out that Qwen's tokenizer composes characters; llama.cpp does, too
        expected = [text for text in TEXTS if not unicodedata.is_normalized("NFC", text)]
        assert expected
    assert differences(ours, theirs, parse_special) == expected


@pytest.mark.parametrize("parse_special", [True, False])
def test_llama(tmp_path, parse_special):
    ours, theirs = both(tmp_path, "llama", sentence_piece(prefix=True)[0])
    # They put no space in front of a text that has one, and none behind special tokens. llama.cpp does.
    expected = [text for text in TEXTS if text.startswith(" ")]
    if parse_special:
        expected += [text for text in TEXTS if "<s>" in text]
    assert set(differences(ours, theirs, parse_special)) <= {*expected, "▁", "▁a▁b"}
    assert set(expected) & set(differences(ours, theirs, parse_special))


@pytest.mark.parametrize("parse_special", [True, False])
def test_gemma(tmp_path, parse_special):
    runs = tuple("▁" * length for length in range(2, 32))
    metadata, _ = sentence_piece(prefix=False, user_defined=(*runs, "\n", "\n\n", "<tool>"))
    ours, theirs = both(tmp_path, "gemma3", metadata)
    # In a run longer than any token they take 16 spaces at a time; SentencePiece takes the longest token.
    expected = [text for text in TEXTS if " " * 32 in text]
    assert expected
    assert differences(ours, theirs, parse_special) == expected
