"""Models of configurations, and what is refused."""

import pytest
import torch

from shortlist.errors import UsageError
from shortlist.torch.moe import moe_layers
from shortlist.torch.train.config import GateConfig, ModelConfig, MoEConfig
from shortlist.torch.train.model import loss_weights


def test_ids_of_the_tokenizer(build, tokenizer):
    model = build()
    assert model.config.eos_token_id == tokenizer.encode("<|endoftext|>", parse_special=True)[0]
    assert model.config.bos_token_id is None
    assert model.config.vocab_size == tokenizer.vocab_size == 270


def test_the_seed_decides(build):
    first, second = build().state_dict(), build().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_layers_may_differ(build):
    model = build(MoEConfig(experts=(0, 3), width=24, shared=16, gate=GateConfig(options={"k": 1})))
    (layer,) = moe_layers(model)
    assert layer is model.model.layers[1].mlp
    assert layer.experts.gate_up_proj.shape == (3, 48, 32)
    assert layer.shared_expert is not None
    assert layer.shared_expert.up_proj.weight.shape == (16, 32)
    assert model.model.layers[0].mlp.up_proj.weight.shape == (64, 32)
    dense = model.model.layers[0].mlp.up_proj.weight.std()
    assert layer.experts.gate_up_proj.std().item() == pytest.approx(dense.item(), rel=0.1), "drawn alike"


@pytest.mark.parametrize(
    ("kind", "gated"),
    [
        ("llama", True),
        ("qwen3", True),
        ("mistral", True),
        ("gemma3_text", True),
        ("phi3", True),
        ("arcee", False),
    ],
)
def test_families_with_experts(build, tokenizer, kind, gated):
    model = build(MoEConfig(experts=2), type=kind)
    logits = model(input_ids=torch.tensor([tokenizer.encode("the cat")])).logits
    assert logits.isfinite().all()
    assert [layer.experts.gated for layer in moe_layers(model)] == [gated] * 2
    assert model.training


@pytest.mark.parametrize(
    ("model", "block"),
    [
        ({"type": "mixtral"}, "MixtralSparseMoeBlock"),
        ({"type": "qwen3_moe"}, "Qwen3MoeSparseMoeBlock"),
        ({"type": "starcoder2"}, "Starcoder2MLP"),
        ({"options": {"mlp_bias": True}}, "LlamaMLP"),
    ],
)
def test_layers_that_an_expert_cannot_replace_are_refused(build, model, block):
    kind = model.get("type", "llama")
    with pytest.raises(UsageError, match=rf"^\[moe\] cannot replace {block} of \[model\] type '{kind}'"):
        build(MoEConfig(experts=2), **model)
    assert build(**model) is not None, "without [moe] it is built"


def test_layers_that_compute_something_else_are_refused(build, monkeypatch):
    from transformers.models.llama.modeling_llama import LlamaMLP

    plain = LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, "forward", lambda self, x: 1.001 * plain(self, x))
    with pytest.raises(UsageError, match=r"cannot replace LlamaMLP"):
        build(MoEConfig(experts=2))


@pytest.mark.parametrize(
    ("moe", "model", "message"),
    [
        (None, {"type": "lama"}, "[model] type 'lama' is not one of"),
        (None, {"options": {"rms_norm_epsilon": 1}}, "did you mean rms_norm_eps?"),
        (MoEConfig(experts=(1,)), {}, "lists 1 layers, and the model has 2"),
        (MoEConfig(experts=0), {}, "leaves every layer dense"),
        (MoEConfig(gate=GateConfig("sofmax")), {}, "did you mean softmax?"),
        (
            MoEConfig(gate=GateConfig(options={"kk": 1})),
            {},
            "[moe.gate] kk is not a key that is known: did you mean k?",
        ),
        (MoEConfig(gate=GateConfig(options={"k": 99})), {}, "[moe.gate]: k must be from 1 to"),
        (MoEConfig(gate=GateConfig(wrap=("permute",))), {}, "did you mean permuted?"),
    ],
)
def test_what_is_wrong_is_named(build, moe, model, message):
    with pytest.raises(UsageError) as raised:
        build(moe, **model)
    assert message in str(raised.value)


def test_losses_must_be_given_by_a_gate(build):
    moe = MoEConfig(losses={"load_balanc": 1.0})
    with pytest.raises(UsageError, match=r"\[moe.losses\] load_balanc .* did you mean load_balance\?"):
        loss_weights(build(moe), moe)
    assert loss_weights(build(MoEConfig()), MoEConfig()) == {"load_balance": 0.01, "router_z": 0.001}
    assert loss_weights(build(), None) == {}


def test_a_type_that_transformers_cannot_build(build):
    with pytest.raises(UsageError, match="transformers"):
        build(type="clip")


def test_configurations_name_only_what_they_have():
    assert ModelConfig().options == {}
