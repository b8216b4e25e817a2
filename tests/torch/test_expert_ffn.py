"""The experts' operator: what compilers, exporters and higher derivatives ask of it."""

import copy

import pytest

torch = pytest.importorskip("torch")

from dense_loop import Fixed, experts_of, mask_of  # noqa: E402
from torch._dynamo.testing import CompileCounterWithBackend  # noqa: E402

from shortlist.torch import Experts, MoE, QuantizedExperts, SoftmaxTopK, UnequalExperts  # noqa: E402
from shortlist.torch.activations import ACTIVATIONS  # noqa: E402
from shortlist.torch.gates import GATES  # noqa: E402


def layer(kind="equal", gate="softmax"):
    torch.manual_seed(0)
    experts = Experts(4, 16, 8) if kind == "equal" else UnequalExperts(16, [8, 4, 8, 12])
    return MoE(GATES[gate](16, 4), experts)


def penalty(moe, function, x):
    """Gradients of the squared gradient of a loss."""
    moe.zero_grad()
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    return {"x": x.grad, **{name: p.grad for name, p in moe.named_parameters()}}


@pytest.mark.parametrize("kind", ["equal", "unequal"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("frozen", ["nothing", "up", "router"])
def test_second_derivatives_are_those_of_the_definition(kind, dtype, frozen):
    moe, x = layer(kind).to(dtype), torch.randn(6, 16, dtype=dtype)
    for name, parameter in moe.named_parameters():
        parameter.requires_grad_(frozen not in name)
    found, expected = penalty(moe, moe, x), penalty(moe, moe.reference, x)
    for name, gradient in expected.items():
        assert (gradient is None) == (found[name] is None), name
        if gradient is not None:
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", ["silu", "relu2"])
@pytest.mark.parametrize("gated", [True, False])
def test_gradients_of_gradients_are_those_of_finite_differences(activation, gated):
    torch.manual_seed(0)
    moe = MoE(Fixed(3, mask_of([2, 0, 3])), experts_of([2, 2, 2], activation, gated, width=3)).double()
    x = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    assert activation in ACTIVATIONS
    assert torch.autograd.gradgradcheck(moe, (x,))


def test_quantized_experts_refuse_second_derivatives():
    moe = MoE(SoftmaxTopK(32, 4), QuantizedExperts.of(Experts(4, 32, 32)))
    x = torch.randn(6, 32, requires_grad=True)
    with pytest.raises(NotImplementedError, match="quantized experts have no second derivatives"):
        torch.autograd.grad(moe(x).sum(), x, create_graph=True)


def test_an_output_that_nobody_needs_has_no_gradient():
    moe = layer()
    moe(torch.randn(6, 16)).detach().sum()
    assert all(p.grad is None for p in moe.parameters())


@pytest.mark.parametrize("kind", ["equal", "unequal"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_layer_is_compiled_whole_with_the_same_results(kind, dtype):
    torch._dynamo.reset()
    moe = layer(kind).to(dtype)
    compiled = torch.compile(moe, backend=CompileCounterWithBackend("aot_eager"), fullgraph=True)
    results = []
    for function in (moe, compiled):
        moe.zero_grad()
        torch.manual_seed(1)
        x = torch.randn(12, 16).to(dtype).requires_grad_()
        y = function(x)
        loss = y.float().square().sum() + sum(moe.routing.losses.values())
        loss.backward()
        results.append([y, x.grad, *(p.grad for p in moe.parameters())])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("gate", ["softmax", "sigmoid", "dual_price", "noisy_top_k", "hash"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
def test_gates_of_a_fixed_number_of_experts_are_compiled_whole(gate, training):
    torch._dynamo.reset()
    moe = layer(gate=gate).train(training)
    twin = copy.deepcopy(moe)
    compiled = torch.compile(moe, backend="aot_eager", fullgraph=True)
    for _ in range(3):
        x, ids = torch.randn(12, 16), torch.arange(12)
        torch.manual_seed(1)
        found = compiled(x, ids)
        torch.manual_seed(1)
        assert torch.equal(found, twin(x, ids))
        moe.gate.after_step()
        twin.gate.after_step()
        for one, other in zip(moe.buffers(), twin.buffers(), strict=True):
            assert torch.equal(one, other)


def test_a_layer_is_exported():
    moe, x = layer().eval(), torch.randn(5, 16)
    exported = torch.export.export(moe, (x,)).module()
    assert torch.equal(exported(x), moe(x))


def test_function_transforms_have_the_same_gradients():
    moe, x = layer(), torch.randn(6, 16)
    parameters = {name: p.detach() for name, p in moe.named_parameters()}

    def loss(given):
        return torch.func.functional_call(moe, given, (x,)).square().sum()

    found = torch.func.grad(loss)(parameters)
    moe(x).square().sum().backward()
    for name, parameter in moe.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-5)


def test_parameters_can_be_resized_after_they_were_used():
    """As FSDP does with what it has gathered."""
    moe = layer()
    moe(torch.randn(6, 16)).sum().backward()
    storages = [p.untyped_storage() for p in moe.experts.parameters()]
    for storage in storages:
        storage.resize_(0)
    assert all(storage.size() == 0 for storage in storages)
