"""Patching tiny random `transformers` models in place, with everything that people do to such models."""

import peft
import pytest
import torch
from safetensors.torch import load_file
from test_adoption import mixtral, take
from transformers import LlamaConfig, LlamaForCausalLM

from shortlist.errors import UsageError
from shortlist.torch import Experts, MoE, SoftmaxTopK, auxiliary_losses, patch

IDS = torch.arange(10)[None]


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=40,
    )
    return LlamaForCausalLM(config).eval()


def make(index, _mlp):
    return MoE(SoftmaxTopK(16, 4 + index), Experts(4 + index, 16, 24))


def test_undo_restores_the_model_exactly(model):
    before, blocks = model(IDS).logits, [layer.mlp for layer in model.model.layers]
    state, hooks = model.state_dict().keys(), len(model._forward_pre_hooks)
    done = patch(model, make, layers=[0, 2])
    assert done.layers.keys() == {0, 2}
    assert model.model.layers[2].mlp is done.layers[2]
    assert model.model.layers[1].mlp is blocks[1]
    assert not torch.equal(model(IDS).logits, before)
    model.train()
    done.undo()
    done.undo()
    assert [layer.mlp for layer in model.model.layers] == blocks
    assert all(block.training for block in blocks)
    assert model.state_dict().keys() == state
    assert len(model._forward_pre_hooks) == hooks
    assert torch.equal(model.eval()(IDS).logits, before)


def failing(index, mlp):
    if index == 2:
        raise ValueError("no")
    return make(index, mlp)


@pytest.mark.parametrize(
    ("how", "layers", "error", "message"),
    [
        (make, [0, 3], UsageError, "no layer 3: LlamaForCausalLM has layers 0 to 2"),
        (make, [0, -1], UsageError, "no layer -1: LlamaForCausalLM has layers 0 to 2"),
        (failing, None, ValueError, "no"),
        (
            lambda index, mlp: make(index, mlp) if index < 2 else None,
            None,
            UsageError,
            "returned None for layer 2",
        ),
    ],
)
def test_a_patch_that_fails_leaves_the_model_alone(model, how, layers, error, message):
    blocks, hooks = [layer.mlp for layer in model.model.layers], len(model.model._forward_pre_hooks)
    with pytest.raises(error, match=message):
        patch(model, how, layers)
    assert [layer.mlp for layer in model.model.layers] == blocks
    assert len(model.model._forward_pre_hooks) == hooks


def test_layers_may_be_named_twice_and_by_a_generator(model):
    blocks = [layer.mlp for layer in model.model.layers]
    done = patch(model, make, (index for index in (1, 0, 1)))
    assert done.layers.keys() == {0, 1}
    done.undo()
    assert [layer.mlp for layer in model.model.layers] == blocks


def test_patches_are_undone_in_the_other_order_only(model):
    blocks = [layer.mlp for layer in model.model.layers]
    before = model(IDS).logits
    first = patch(model, make, [0, 1])
    second = patch(model, make, [1, 2])
    now = model(IDS).logits
    with pytest.raises(UsageError, match="layer 1 was replaced again after this patch"):
        first.undo()
    assert torch.equal(model(IDS).logits, now), "layer 0 is not put back either"
    second.undo()
    first.undo()
    assert [layer.mlp for layer in model.model.layers] == blocks
    assert torch.equal(model(IDS).logits, before)


def test_undo_does_not_lose_an_adapter():
    torch.manual_seed(0)
    model = mixtral()
    plain = model(IDS).logits
    done = patch(model, take)
    config = peft.LoraConfig(target_parameters=["experts.gate_up_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(model, config)
    with pytest.raises(UsageError, match="layer 0 holds an adapter of peft: unload or merge it"):
        done.undo()
    assert not torch.allclose(adapted(IDS).logits, plain)


def test_undo_follows_the_type_of_the_model(model):
    done = patch(model, make, [1])
    model.to(torch.float64)
    done.undo()
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert model(IDS).logits.dtype == torch.float64


def test_undo_leaves_a_type_of_its_own(model):
    model.model.layers[1].mlp.bfloat16()
    done = patch(model, make, [1])
    done.undo()
    assert model.model.layers[1].mlp.up_proj.weight.dtype == torch.bfloat16


def test_generate_and_save(model, tmp_path):
    patch(model, make)
    text = model.generate(IDS, max_new_tokens=5, do_sample=False, pad_token_id=0)
    uncached = model.generate(IDS, max_new_tokens=5, do_sample=False, pad_token_id=0, use_cache=False)
    assert text.shape == (1, 15)
    assert torch.equal(text, uncached)
    model.save_pretrained(tmp_path)
    other = LlamaForCausalLM(model.config).eval()
    patch(other, make)
    other.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=False)
    assert torch.equal(other(IDS).logits, model(IDS).logits)


def losses_and_gradients(model):
    model.zero_grad()
    loss = model(IDS, labels=IDS).loss + auxiliary_losses(model)["load_balance"]
    loss.backward()
    return {"loss": loss.detach()} | {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_no_gradient(model, reentrant):
    patch(model.train(), make)
    loss = model(IDS, labels=IDS).loss
    loss.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    model(IDS, labels=IDS).loss.backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], msg=lambda m, name=name: f"{name}: {m}")


def test_auxiliary_losses_survive_gradient_checkpointing(model):
    patch(model.train(), make)
    expected = losses_and_gradients(model)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    found = losses_and_gradients(model)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], msg=lambda m, name=name: f"{name}: {m}")


def test_autocast(model):
    patch(model, make)
    exact = model(IDS).logits
    with torch.autocast("cpu", torch.bfloat16):
        out = model(IDS, labels=IDS)
    out.loss.backward()
    assert (out.logits - exact).norm() < 0.02 * exact.norm()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("parameters", [None, ["experts.gate_up_proj", "experts.down_proj"]])
def test_lora(parameters):
    torch.manual_seed(0)
    model = mixtral()
    plain = model(IDS).logits
    done = patch(model, take)
    config = peft.LoraConfig(target_modules=["q_proj"], target_parameters=parameters, init_lora_weights=False)
    adapted = peft.get_peft_model(model, config)
    adapted(IDS, labels=IDS).loss.backward()
    trained = {name for name, p in adapted.named_parameters() if p.grad is not None and (p.grad != 0).any()}
    assert trained
    assert all("lora_" in name for name in trained)
    assert any("experts" in name for name in trained) == bool(parameters)
    assert not torch.allclose(adapted(IDS).logits, plain)
    with adapted.disable_adapter():
        torch.testing.assert_close(adapted(IDS).logits, plain, atol=1e-5, rtol=1e-5)
    adapted.unload()
    done.undo()
    assert torch.equal(model(IDS).logits, plain)


def test_patch_of_an_adapted_model(model):
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj", "up_proj"]))
    before = adapted(IDS).logits
    with patch(adapted, make):
        assert not torch.equal(adapted(IDS).logits, before)
    assert torch.equal(adapted(IDS).logits, before)
