"""Models with quantized experts, saved as `transformers` saves and loaded again."""

import json

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file

import shortlist
from shortlist.errors import CheckpointError, UsageError
from shortlist.torch import (
    Experts,
    MoE,
    SoftmaxTopK,
    adopt,
    load_quantized,
    moe_layers,
    patch,
    quantize_experts,
)
from shortlist.torch.quantized_experts import QuantizedExperts

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}
IDS = torch.arange(18).view(2, 9)


def mixtral():
    return transformers.MixtralForCausalLM(transformers.MixtralConfig(**SIZES, num_local_experts=4)), None


def qwen2_moe():
    config = transformers.Qwen2MoeConfig(
        **SIZES,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        shared_expert_intermediate_size=64,
        mlp_only_layers=[1],
        tie_word_embeddings=True,
    )
    return transformers.Qwen2MoeForCausalLM(config), [0, 2]


def quantized(family=mixtral, bits=8):
    torch.manual_seed(0)
    model, layers = family()
    model.eval()
    patch(model, lambda _, block: adopt(block), layers)
    quantize_experts(model, bits)
    return model


@pytest.fixture
def folder(tmp_path):
    quantized().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change(folder, **settings):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"] |= settings
    path.write_text(json.dumps(config))


@torch.no_grad()
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("family", [mixtral, qwen2_moe])
def test_what_is_saved_loads_again(family, bits, tmp_path):
    model = quantized(family, bits)
    expected = model(IDS).logits
    for folder in ("first", "second"):  # what was loaded can be saved
        model.save_pretrained(tmp_path / folder)
        model = load_quantized(tmp_path / folder)
        assert torch.equal(model(IDS).logits, expected)
        assert not model.training
    assert {type(layer.experts) for layer in moe_layers(model)} == {QuantizedExperts}
    assert len(list(moe_layers(model))) == {mixtral: 3, qwen2_moe: 2}[family]
    assert {layer.experts.bits for layer in moe_layers(model)} == {bits}


def test_the_type_is_that_of_the_file(tmp_path):
    quantized().bfloat16().save_pretrained(tmp_path)
    model = load_quantized(tmp_path)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16, torch.uint8}


def test_the_file_says_what_it_is(folder):
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert config == {"quant_method": "shortlist_experts", "bits": 8, "layers": [0, 1, 2]}
    assert any(tensor.dtype == torch.uint8 for tensor in load_file(folder / "model.safetensors").values())


def test_the_native_runtime_refuses_it_in_one_line(folder):
    with pytest.raises(CheckpointError, match=r"quantization_config is .*, which is not supported"):
        shortlist.load(folder)


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"config.json cannot be read"):
        load_quantized(tmp_path)
    mixtral()[0].save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="has no experts that quantize_experts made"):
        load_quantized(str(tmp_path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 3}, "quantization_config is not one that quantize_experts writes"),
        ({"layers": "all"}, "quantization_config is not one that quantize_experts writes"),
        ({"layers": [0, 1.5]}, "quantization_config is not one that quantize_experts writes"),
        ({"group": 64}, "quantization_config is not one that quantize_experts writes"),
        ({"layers": [0, 3]}, "names layers that it does not have"),
        ({"layers": [-1]}, "names layers that it does not have"),
    ],
)
def test_a_configuration_that_is_not_ours_is_refused(folder, settings, message):
    change(folder, **settings)
    with pytest.raises(CheckpointError, match=message):
        load_quantized(folder)


@pytest.mark.parametrize("settings", [{"bits": 4}, {"layers": [0, 1]}])
def test_tensors_of_other_sizes_are_refused(folder, settings):
    change(folder, **settings)
    with pytest.raises(CheckpointError, match=r"tensors do not fit its config\.json"):
        load_quantized(folder)


def test_layers_that_are_not_those_of_transformers_do_not_load(tmp_path):
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES))
    patch(model, lambda *_: MoE(SoftmaxTopK(64, 4), Experts(4, 64, 32)), [1])
    quantize_experts(model)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["quantization_config"]["layers"] == [1]
    with pytest.raises(CheckpointError, match="LlamaMLP cannot be adopted"):
        load_quantized(tmp_path)


@pytest.mark.parametrize("modules", [["q_proj"], None])
def test_an_adapter_of_quantized_experts_is_refused(modules):
    config = peft.LoraConfig(target_modules=modules, target_parameters=["experts.down_proj"])
    with pytest.raises(UsageError, match="quantized experts take no adapter"):
        peft.get_peft_model(quantized(), config)


def test_an_adapter_around_quantized_experts_trains():
    model = peft.get_peft_model(
        quantized(), peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    )
    model(IDS, labels=IDS).loss.backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
