"""Blocks of tiny random `transformers` models, before and after they are taken over."""

import copy

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import nn

from shortlist.errors import UsageError
from shortlist.nn import MoE, adopt, auxiliary_losses, patch

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 40,
}
IDS = torch.arange(12).view(2, 6)


def mixtral():
    config = transformers.MixtralConfig(**SIZES, num_local_experts=4)
    return transformers.MixtralForCausalLM(config)


def qwen2_moe():
    config = transformers.Qwen2MoeConfig(
        **SIZES,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=12,
        shared_expert_intermediate_size=20,
    )
    return transformers.Qwen2MoeForCausalLM(config)


def qwen3_moe():
    config = transformers.Qwen3MoeConfig(
        **SIZES,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=12,
        norm_topk_prob=True,
        head_dim=8,
    )
    return transformers.Qwen3MoeForCausalLM(config)


def olmoe():
    return transformers.OlmoeForCausalLM(
        transformers.OlmoeConfig(**SIZES, num_experts=4, num_experts_per_tok=2)
    )


@pytest.fixture(params=[mixtral, qwen2_moe, qwen3_moe, olmoe], ids=lambda family: family.__name__)
def model(request):
    torch.manual_seed(0)
    model = request.param().eval()
    for parameter in model.parameters():  # some routers start at zero, where all experts tie
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.2)
    return model


def take(_index, block):
    return adopt(block)


def test_the_layer_computes_what_the_block_did(model):
    plain = model(IDS).logits
    with patch(model, take) as done:
        assert all(isinstance(layer, MoE) for layer in done.layers.values())
        torch.testing.assert_close(model(IDS).logits, plain, atol=1e-5, rtol=1e-5)
        for layer in done.layers.values():
            x = torch.randn(5, 16)
            torch.testing.assert_close(layer(x), layer.reference(x))
    assert torch.equal(model(IDS).logits, plain)


def test_gradients_are_those_of_the_block(model):
    def gradients():
        model.zero_grad()
        model(IDS, labels=IDS).loss.backward()
        return {name.replace("gate.router", "gate"): p.grad.clone() for name, p in model.named_parameters()}

    expected = gradients()
    with patch(model, take):
        found = gradients()
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], msg=lambda m, name=name: f"{name}: {m}")


def test_names_stay_and_what_is_saved_loads_again(model, tmp_path):
    names = list(model.state_dict())
    plain = model(IDS).logits
    model.save_pretrained(tmp_path / "plain")
    with patch(model, take):
        assert sorted(model.state_dict()) == sorted(names)
        model.save_pretrained(tmp_path / "patched")
        state = copy.deepcopy(model.state_dict())
        assert model.load_state_dict(state).missing_keys == []
    before, after = (load_file(tmp_path / folder / "model.safetensors") for folder in ("plain", "patched"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(type(model).from_pretrained(tmp_path / "patched")(IDS).logits, plain)


def test_router_logits_and_losses_are_those_of_transformers(model):
    plain = model(IDS, output_router_logits=True)
    with patch(model, take):
        found = model(IDS, output_router_logits=True)
        ours = auxiliary_losses(model)
    torch.testing.assert_close(found.router_logits, plain.router_logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.aux_loss, plain.aux_loss, atol=1e-5, rtol=1e-5)
    assert ours.keys() == {"load_balance", "router_z"}


def test_other_blocks_are_refused():
    with pytest.raises(UsageError, match="Linear is no mixture-of-experts block"):
        adopt(nn.Linear(2, 2))
