"""Tokenizers of runs: trained, or another model's."""

import dataclasses

import pytest
from torch_runs import tiny_config

from shortlist.checkpoints import open_checkpoint
from shortlist.model.tokenizer.tokenizer import Tokenizer
from shortlist.torch import train as training
from shortlist.torch.train.config import DataConfig
from shortlist.torch.train.text import read_texts, tokenize
from shortlist.torch.train.tokenizer import END, end_of_text, prepare_tokenizer

UNSEEN = "Çà ⏎ 😀\t\x00 x"


def test_a_trained_tokenizer_encodes_every_text(tokenizer):
    assert tokenizer.decode(tokenizer.encode(UNSEEN)) == UNSEEN
    assert tokenizer.encode(END, parse_special=True) == [end_of_text(tokenizer)]
    assert len(tokenizer.encode("the cat sat")) < 11, "words are merged"


@pytest.mark.slow
def test_that_of_a_gguf_file(smollm2, tmp_path):
    taken = prepare_tokenizer(DataConfig(("x",), tokenizer=str(smollm2)), [], tmp_path)
    with open_checkpoint(smollm2) as opened:
        original = Tokenizer.from_checkpoint(opened)
        assert taken.encode(UNSEEN) == original.encode(UNSEEN)
    assert taken.vocab_size == original.vocab_size


def test_a_model_tokenizer_is_taken(tmp_path, no_plots):
    config = tiny_config(tmp_path)
    first = training.train(config, tmp_path / "first")
    data = dataclasses.replace(config.data, tokenizer=str(tmp_path / "first"))
    second = training.train(dataclasses.replace(config, data=data), tmp_path / "second")
    assert (tmp_path / "second" / "tokenizer.json").read_bytes() == (
        tmp_path / "first" / "tokenizer.json"
    ).read_bytes()
    assert second.validation_loss == first.validation_loss
    (text,) = read_texts(config.data)[0]
    tokens = tokenize([text], second.tokenizer.encode, None)
    assert first.tokenizer.decode(tokens) == text
