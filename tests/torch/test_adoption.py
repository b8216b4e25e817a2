"""Blocks of tiny random `transformers` models, before and after they are taken over."""

import copy
import importlib
import re
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import nn

from shortlist.errors import UsageError
from shortlist.torch import MoE, adopt, auxiliary_losses, patch
from shortlist.torch.adoption import FAMILIES

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
    with pytest.raises(UsageError, match=r"^Linear cannot be adopted: adopt takes the blocks of Mixtral"):
        adopt(nn.Linear(2, 2))


CONFIGS = {
    "Mixtral": "MixtralConfig",
    "MiniMax": "MiniMaxConfig",
    "Mellum": "MellumConfig",
    "Olmoe": "OlmoeConfig",
    "FlexOlmo": "FlexOlmoConfig",
    "Qwen2Moe": "Qwen2MoeConfig",
    "Qwen3Moe": "Qwen3MoeConfig",
    "Qwen3Next": "Qwen3NextConfig",
    "Qwen3_5Moe": "Qwen3_5MoeTextConfig",
    "Qwen3VLMoeText": "Qwen3VLMoeTextConfig",
    "Qwen3OmniMoeThinkerText": "Qwen3OmniMoeTextConfig",
    "Qwen3OmniMoeTalkerText": "Qwen3OmniMoeTalkerTextConfig",
    "Qwen4ExpText": "Qwen4ExpTextConfig",
}
COUNTS = dict.fromkeys(("num_experts", "num_local_experts"), 4)
WIDTHS = dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 12)


def block_of(family, **changes):
    """A block of a family of `transformers`, random and small."""
    config = getattr(transformers, CONFIGS[family])()
    for name, value in (SIZES | COUNTS | WIDTHS | {"num_experts_per_tok": 2} | changes).items():
        setattr(config, name, value)
    config._experts_implementation = "eager"
    folder = sys.modules[type(config).__module__].__name__.rpartition(".")[0]
    module = importlib.import_module(f"{folder}.modeling_{folder.rpartition('.')[2]}")
    torch.manual_seed(0)
    block = getattr(module, f"{family}SparseMoeBlock")(config)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_computes_what_its_block_did(family, normalized):
    block = block_of(family, norm_topk_prob=normalized)
    x = torch.randn(2, 5, 16)
    torch.testing.assert_close(adopt(block)(x), block(x.clone()), atol=1e-5, rtol=1e-5)


def blocks_of_transformers():
    """All classes there that hold experts, by the words of their source."""
    found = set()
    for file in Path(transformers.__file__).parent.glob("models/*/modeling_*.py"):
        for part in re.split(r"^class ", file.read_text(), flags=re.MULTILINE)[1:]:
            if re.search(r"self\.experts\b.* = ", part):
                found.add(re.match(r"\w+", part)[0])
    return sorted(found)


def test_every_other_class_is_refused_by_its_name():
    names = set(blocks_of_transformers())
    known = {f"{family}SparseMoeBlock" for family in FAMILIES}
    assert len(names) > 60
    assert known < names
    block = block_of("Mixtral")  # whatever the parts are: the name decides
    for name in names - known:
        block.__class__ = type(name, (nn.Module,), {"__module__": "transformers.models.x"})
        with pytest.raises(UsageError, match=f"^{name} cannot be adopted"):
            adopt(block)


def test_a_class_of_the_same_name_is_refused():
    block = block_of("Mixtral")
    block.__class__ = type("MixtralSparseMoeBlock", (type(block),), {"__module__": "my_remote_code"})
    with pytest.raises(UsageError, match=r"^MixtralSparseMoeBlock cannot be adopted"):
        adopt(block)


@pytest.mark.parametrize("part", ["gate", "experts"])
@pytest.mark.parametrize("module", ["somewhere", "transformers.models.mixtral"])
def test_a_block_with_another_part_is_refused(part, module):
    block = block_of("Mixtral")
    inner = getattr(block, part)
    name = type(inner).__name__ if module == "somewhere" else "Other"
    inner.__class__ = type(name, (type(inner),), {"__module__": module})
    with pytest.raises(UsageError, match=f"MixtralSparseMoeBlock with a {name} in place of Mixtral"):
        adopt(block)


def test_a_block_with_more_parts_is_refused():
    block = block_of("Olmoe")
    block.shared_expert = nn.Linear(16, 16)
    with pytest.raises(UsageError, match=r"other parts than adopt knows \(gate, experts, shared_expert\)"):
        adopt(block)


def test_jitter_is_refused_until_it_is_off():
    block = block_of("Mixtral", router_jitter_noise=0.01)
    with pytest.raises(UsageError, match=r"^MixtralSparseMoeBlock trains with router_jitter_noise 0\.01"):
        adopt(block)
    block.jitter_noise = 0
    adopt(block)


def test_an_unknown_activation_is_refused():
    with pytest.raises(UsageError, match=r"^MixtralSparseMoeBlock with hidden_act 'quick_gelu'"):
        adopt(block_of("Mixtral", hidden_act="quick_gelu"))


def test_a_part_of_the_experts_is_refused():
    block = block_of("Mixtral")
    block.experts._is_expert_parallel = True
    with pytest.raises(UsageError, match="holds a part of its experts"):
        adopt(block)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("gate_up_proj", torch.zeros(4, 48, 16, dtype=torch.uint8)),
        ("gate_up_proj", torch.zeros(4, 24, 16)),
        ("down_proj", torch.zeros(1536, 1)),
    ],
)
def test_quantized_experts_are_refused(name, values):
    block = block_of("Mixtral")
    setattr(block.experts, name, nn.Parameter(values, requires_grad=False))
    with pytest.raises(UsageError, match="experts of MixtralSparseMoeBlock are quantized"):
        adopt(block)
