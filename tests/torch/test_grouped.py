"""The grouped product, on whatever device there is, against one product for each expert."""

import pytest
import torch

from shortlist.torch import Experts, MoE, SoftmaxTopK
from shortlist.torch import experts as module
from shortlist.torch.grouped import grouped_serves

pytestmark = pytest.mark.skipif(
    not hasattr(torch, "_grouped_mm"), reason="this PyTorch has no grouped product"
)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("tokens", [1, 33])
def test_grouped_product_is_the_loop(monkeypatch, gated, tokens):
    torch.manual_seed(0)
    moe = MoE(SoftmaxTopK(16, 4), Experts(4, 16, 24, gated=gated))
    x = torch.randn(tokens, 16)

    def run(grouped: bool):
        monkeypatch.setattr(module, "grouped_serves", lambda *_: grouped)
        moe.zero_grad()
        y = moe(x)
        y.square().sum().backward()
        return y, {name: p.grad for name, p in moe.named_parameters()}

    (y, found), (exact, expected) = run(True), run(False)
    torch.testing.assert_close(y, exact)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], msg=lambda m, name=name: f"{name}: {m}")


def test_only_what_the_kernel_takes_goes_to_it():
    experts = Experts(2, 16, 24, gated=True).bfloat16()
    assert not grouped_serves(torch.zeros(1, 16, dtype=torch.bfloat16), *experts.matrices())
    with torch.device("meta"):
        assert not grouped_serves(torch.zeros(1, 16), *experts.matrices())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu():
    torch.manual_seed(0)
    moe = MoE(SoftmaxTopK(64, 8), Experts(8, 64, 96)).cuda().bfloat16()
    x = torch.randn(50, 64, device="cuda", dtype=torch.bfloat16)
    assert grouped_serves(x, *moe.experts.matrices())
    torch.testing.assert_close(moe(x), moe.reference(x), atol=2e-2, rtol=2e-2)
