"""Quantized fused experts against the float experts that they were made of."""

import copy
import pickle

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file

from shortlist.errors import UsageError
from shortlist.torch import Experts, MoE, QuantizedExperts, SoftmaxTopK, UnequalExperts, quantize_experts
from shortlist.torch.quantized_experts import TYPES, unpack

ERROR = {8: 0.015, 4: 0.2}  # of a layer's outputs, relative: both its products are of rounded weights


def layer(**rest) -> MoE:
    torch.manual_seed(0)
    return MoE(SoftmaxTopK(64, 4), Experts(4, 64, 96, **rest))


def relative(found, expected) -> float:
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("tokens", [1, 5, 200])
def test_outputs_are_near(bits, gated, tokens):
    moe = layer(gated=gated)
    x = torch.randn(tokens, 64)
    exact = moe(x).detach()
    quantize_experts(moe, bits)
    with torch.no_grad():
        assert 0 < relative(moe(x), exact) < ERROR[bits]
        assert relative(moe(x), moe.reference(x)) < 0.015  # the native kernels round activations too
    assert relative(moe(x.requires_grad_()), moe.reference(x)) < 1e-5  # unpacked matrices


@pytest.mark.parametrize("bits", [8, 4])
def test_memory(bits):
    experts = Experts(4, 64, 96)
    codes = sum(p.nbytes for p in QuantizedExperts.of(experts, bits).parameters())
    assert codes / sum(p.nbytes for p in experts.parameters()) == {8: 34, 4: 18}[bits] / (32 * 4)


@pytest.mark.parametrize("bits", [8, 4])
def test_unpacked_values_are_those_of_gguf(bits):
    matrix = torch.randn(6, 96)
    blocks = gguf.quants.quantize(matrix.numpy(), TYPES[bits])
    expected = torch.from_numpy(gguf.quants.dequantize(blocks, TYPES[bits]))
    torch.testing.assert_close(unpack(torch.from_numpy(blocks), bits), expected)
    assert relative(expected, matrix) < {8: 0.01, 4: 0.12}[bits]


@pytest.mark.parametrize("bits", [8, 4])
def test_gradients_of_states_and_router_are_those_of_the_rounded_weights(bits):
    moe = layer()
    quantize_experts(moe, bits)

    def gradients(function):
        moe.zero_grad()
        x = torch.linspace(-1, 1, 20 * 64).view(20, 64).requires_grad_()
        function(x).square().sum().backward()
        return x.grad, moe.gate.router.weight.grad

    torch.testing.assert_close(gradients(moe), gradients(moe.reference))


@pytest.mark.parametrize("bits", [8, 4])
def test_saved_and_loaded_again(bits, tmp_path):
    moe = layer()
    quantize_experts(moe, bits)
    x = torch.randn(3, 64)
    with torch.no_grad():
        expected = moe(x)
        save_file(moe.state_dict(), tmp_path / "moe.safetensors")
        other = MoE(SoftmaxTopK(64, 4), QuantizedExperts(4, 64, 96, bits=bits))
        other(x)  # packs rows that loading must forget
        other.load_state_dict(load_file(tmp_path / "moe.safetensors"))
        assert torch.equal(other(x), expected)
        assert torch.equal(copy.deepcopy(other)(x), expected)
        assert other.bfloat16().experts.down_proj.dtype == torch.uint8


def test_rows_are_packed_again_where_codes_were_written_or_replaced():
    moe, other = layer(), layer()
    torch.nn.init.normal_(other.experts.down_proj)
    quantize_experts(moe)
    quantize_experts(other)
    other.gate.load_state_dict(moe.gate.state_dict())
    x = torch.randn(3, 64)
    with torch.no_grad():
        moe(x)
        expected = other(x)
        assert not torch.equal(moe(x), expected)
        moe.experts.down_proj.copy_(other.experts.down_proj)
        moe.experts.gate_up_proj = other.experts.gate_up_proj
        assert torch.equal(moe(x), expected)


def test_a_quantized_layer_can_be_pickled_and_made_on_the_meta_device():
    moe = layer()
    quantize_experts(moe)
    x = torch.randn(3, 64)
    with torch.no_grad():
        expected = moe(x)
        assert torch.equal(pickle.loads(pickle.dumps(moe))(x), expected)
        with torch.device("meta"):
            empty = MoE(SoftmaxTopK(64, 4), QuantizedExperts(4, 64, 96))
        empty.to_empty(device="cpu").load_state_dict(moe.state_dict())
        assert torch.equal(empty(x), expected)


def test_what_cannot_be_quantized_is_refused():
    with pytest.raises(UsageError, match="8 or 4 bits, not 3"):
        QuantizedExperts(2, 32, 32, bits=3)
    with pytest.raises(UsageError, match="multiples of 32, not 48 and 32"):
        QuantizedExperts(2, 48, 32)
    with pytest.raises(UsageError, match="not UnequalExperts"):
        quantize_experts(MoE(SoftmaxTopK(32, 2), UnequalExperts(32, [32, 64])))
    with pytest.raises(UsageError, match="Linear has no mixture-of-experts layers: patch it first"):
        quantize_experts(torch.nn.Linear(2, 2))
    moe = layer()
    moe.experts.down_proj.data[2, 3, 4] = float("nan")
    with pytest.raises(UsageError, match="not finite cannot be quantized"):
        quantize_experts(moe)


@pytest.mark.parametrize("last", [Experts(4, 64, 24), UnequalExperts(64, [32, 64, 32, 32])])
def test_all_layers_are_quantized_or_none(last):
    model = torch.nn.ModuleList([layer(), MoE(SoftmaxTopK(64, 4), last)])
    before = [each.experts for each in model]
    with pytest.raises(UsageError):
        quantize_experts(model)
    assert [each.experts for each in model] == before


def test_experts_that_layers_share_stay_shared():
    first = layer()
    model = torch.nn.ModuleList([first, MoE(SoftmaxTopK(64, 4), first.experts)])
    quantize_experts(model)
    assert model[0].experts is model[1].experts
    with pytest.raises(UsageError, match="not QuantizedExperts"):
        quantize_experts(model)
