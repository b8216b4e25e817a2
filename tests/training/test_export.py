"""Finished models as Hugging Face folders."""

import dataclasses

import numpy as np
import pytest
import torch
from training.runs import TEXT, tiny_config

import shortlist
from shortlist import training
from shortlist.training.config import GateConfig, MoEConfig


@pytest.mark.parametrize("moe", [None, MoEConfig(experts=4, width=32)], ids=["dense", "experts"])
def test_what_transformers_knows_runs_natively(tmp_path, no_plots, moe):
    run = training.train(tiny_config(tmp_path, moe, steps=20), tmp_path / "run")
    tokens = run.tokenizer.encode("the cat sat on the")
    with torch.no_grad():
        expected = run.model(input_ids=torch.tensor([tokens])).logits[0].numpy()
    with shortlist.load(tmp_path / "run") as model:
        np.testing.assert_allclose(model.logits(tokens), expected, atol=0.05)
        written = model.generate("the cat sat on the", max_tokens=1).tokens
    assert list(written) == [expected[-1].argmax()]


def test_a_llama_with_softmax_gates_is_saved_as_a_mixtral(tmp_path, no_plots):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = training.train(tiny_config(tmp_path, MoEConfig(experts=4, width=16)), tmp_path / "run")
    assert run.note is None
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "run")
    assert saved.config.model_type == "mixtral"
    tokens = run.tokenizer.encode(TEXT[:50])
    assert AutoTokenizer.from_pretrained(tmp_path / "run").encode(TEXT[:50]) == tokens
    with torch.no_grad():
        ours, theirs = (model(input_ids=torch.tensor([tokens])).logits for model in (run.model, saved))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "moe",
    [
        MoEConfig(experts=2, gate=GateConfig("sigmoid")),
        MoEConfig(experts=2, shared=8),
        MoEConfig(experts=(2, 4)),
        MoEConfig(experts=(2, 0)),
        MoEConfig(experts=2, gate=GateConfig(options={"normalize": False})),
    ],
    ids=str,
)
def test_what_no_family_has_is_loaded_from_its_checkpoint(tmp_path, no_plots, moe):
    run = training.train(tiny_config(tmp_path, moe), tmp_path / "run")
    assert "shortlist.training.load_run" in str(run.note)
    assert not (tmp_path / "run" / "config.json").exists()
    loaded = training.load_run(tmp_path / "run")
    tokens = torch.tensor([run.tokenizer.encode("the cat")])
    with torch.no_grad():
        assert torch.equal(loaded.model(input_ids=tokens).logits, run.model(input_ids=tokens).logits)


def test_biases_that_a_mixtral_has_not(tmp_path, no_plots):
    config = tiny_config(tmp_path, MoEConfig(experts=2), steps=2)
    model = dataclasses.replace(config.model, options={"attention_bias": True})
    run = training.train(dataclasses.replace(config, model=model), tmp_path / "run")
    assert run.note is not None
