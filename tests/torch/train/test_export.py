"""Finished models as Hugging Face folders."""

import dataclasses

import numpy as np
import pytest
import torch
from torch_runs import TEXT, tiny_config

import shortlist
from shortlist.torch import load_converted, moe_layers
from shortlist.torch import train as training
from shortlist.torch.train.config import GateConfig, MoEConfig
from shortlist.torch.train.export import export


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
        MoEConfig(experts=(2, 4)),
        MoEConfig(experts=2, gate=GateConfig("dual_price", wrap=("constant_norm",))),
        MoEConfig(experts=2, gate=GateConfig("k_means")),
    ],
    ids=str,
)
def test_what_no_family_has_is_loaded_from_its_checkpoint(tmp_path, no_plots, moe):
    run = training.train(tiny_config(tmp_path, moe), tmp_path / "run")
    assert "shortlist.torch.train.load_run" in str(run.note)
    assert not (tmp_path / "run" / "config.json").exists()
    loaded = training.load_run(tmp_path / "run")
    tokens = torch.tensor([run.tokenizer.encode("the cat")])
    with torch.no_grad():
        assert torch.equal(loaded.model(input_ids=tokens).logits, run.model(input_ids=tokens).logits)


@pytest.mark.parametrize("normalize", [True, False])
def test_a_qwen3_with_softmax_gates_is_saved_as_a_qwen3_moe(tmp_path, no_plots, normalize):
    from transformers import AutoModelForCausalLM

    moe = MoEConfig(experts=4, width=32, gate=GateConfig(options={"normalize": normalize}))
    config = tiny_config(tmp_path, moe)
    model = dataclasses.replace(config.model, type="qwen3", options={"head_dim": 16})
    run = training.train(dataclasses.replace(config, model=model), tmp_path / "run")
    assert run.note is None
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "run")
    assert saved.config.model_type == "qwen3_moe"
    tokens = run.tokenizer.encode(TEXT[:50])
    with torch.no_grad():
        ours, theirs = (model(input_ids=torch.tensor([tokens])).logits for model in (run.model, saved))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    with shortlist.load(tmp_path / "run") as model:
        np.testing.assert_allclose(model.logits(tokens), ours[0].numpy(), atol=0.05)


SOFTMAX_AS_IT_IS = GateConfig(options={"normalize": False})


@pytest.mark.parametrize(
    "moe",
    [
        MoEConfig(experts=4, width=32, gate=GateConfig("dual_price")),  # what docs/gates.md recommends
        MoEConfig(experts=4, width=32, gate=GateConfig("dual_price", options={"k": 1}), shared=32),
        MoEConfig(experts=2, shared=32),
        MoEConfig(experts=(0, 2)),
        MoEConfig(experts=2, gate=SOFTMAX_AS_IT_IS),
    ],
    ids=str,
)
def test_what_only_the_native_runtime_knows_runs_there(tmp_path, no_plots, moe):
    run = training.train(tiny_config(tmp_path, moe, steps=12), tmp_path / "run")
    assert "shortlist.torch.load_converted" in str(run.note)
    for layer in moe_layers(run.model):
        if moe.gate.kind == "dual_price":  # prices that change choices
            layer.gate.price.copy_(torch.linspace(0, 2, layer.gate.experts))
    note = export(run.model, run.config, tmp_path / "run")
    assert note == run.note
    tokens = run.tokenizer.encode("the cat sat on the")
    loaded = load_converted(tmp_path / "run")
    with torch.no_grad():
        expected = run.model(input_ids=torch.tensor([tokens])).logits[0].numpy()
        again = loaded(input_ids=torch.tensor([tokens])).logits[0].numpy()
    np.testing.assert_allclose(again, expected, atol=1e-5)
    with shortlist.load(tmp_path / "run", head="dense") as model:
        np.testing.assert_allclose(model.logits(tokens), expected, atol=1e-3)


def test_a_decoder_that_no_format_knows_is_not_written(tmp_path, no_plots):
    config = tiny_config(tmp_path, MoEConfig(experts=2, gate=GateConfig("dual_price")), steps=2)
    model = dataclasses.replace(config.model, type="stablelm")
    run = training.train(dataclasses.replace(config, model=model), tmp_path / "run")
    assert "shortlist.torch.train.load_run" in str(run.note)
    assert not (tmp_path / "run" / "config.json").exists()


def test_biases_that_a_mixtral_has_not(tmp_path, no_plots):
    config = tiny_config(tmp_path, MoEConfig(experts=2), steps=2)
    model = dataclasses.replace(config.model, options={"attention_bias": True})
    run = training.train(dataclasses.replace(config, model=model), tmp_path / "run")
    assert run.note is not None
