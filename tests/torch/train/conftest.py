"""Fixtures of tests of training."""

import dataclasses

import pytest
from torch_runs import TEXT, tiny_config

from shortlist.torch.train.model import build_model
from shortlist.torch.train.tokenizer import prepare_tokenizer


@pytest.fixture
def no_plots(monkeypatch):
    """Drawing takes longer than such a run."""
    monkeypatch.setattr("shortlist.torch.train.run.draw_plots", lambda run: [])


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    return prepare_tokenizer(tiny_config(folder).data, [TEXT], folder)


@pytest.fixture
def build(tmp_path, tokenizer):
    def build(moe=None, **model):
        config = tiny_config(tmp_path, moe)
        return build_model(
            dataclasses.replace(config, model=dataclasses.replace(config.model, **model)), tokenizer
        )

    return build
