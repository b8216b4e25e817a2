"""Gates that balance loads without a loss."""

import pytest

torch = pytest.importorskip("torch")

from shortlist.torch.gates import DualPrice, ExpertChoice, Sigmoid, SoftmaxTopK  # noqa: E402


def favour_the_first(gate):
    """A router that prefers some experts for every token, by much."""
    with torch.no_grad():
        gate.router.weight[:, 0] = torch.linspace(3, -3, gate.experts)
    return gate


def skewed_tokens(count=2048):
    x = torch.randn(count, 16)
    x[:, 0] = 1
    return x


@pytest.mark.parametrize(
    ("gate", "steps", "limit"),
    # A bias that moves by a fixed step keeps swinging by it; a price moves less the less is wrong.
    [(Sigmoid(16, 8, rate=0.01), 60, 1.45), (DualPrice(16, 8), 60, 1.2), (ExpertChoice(16, 8), 0, 1)],
    ids=["sigmoid", "dual_price", "expert_choice"],
)
def test_a_skewed_router_is_balanced(gate, steps, limit):
    torch.manual_seed(0)
    favour_the_first(gate)
    unbalanced = favour_the_first(SoftmaxTopK(16, 8))(skewed_tokens()).imbalance
    assert unbalanced > 2.5
    for _ in range(steps):
        gate(skewed_tokens())
        gate.after_step()
    assert gate(skewed_tokens()).imbalance <= limit
    if steps:  # biases and prices hold for other tokens too
        assert gate.eval()(skewed_tokens()).imbalance <= limit


def test_the_bias_moves_by_its_rate_and_does_not_weigh():
    torch.manual_seed(0)
    gate = favour_the_first(Sigmoid(16, 8, rate=0.01))
    x = skewed_tokens()
    before = gate(x)
    assert set((gate.bias * 100).round().tolist()) == {0}
    gate.after_step()
    assert set((gate.bias * 100).round().tolist()) <= {-1, 0, 1}
    assert (gate.bias[before.load > before.load.float().mean()] < 0).all()
    gate.bias.fill_(7.0)  # the same for all: nothing changes
    assert torch.equal(gate(x).weights, before.weights)


def test_prices_are_not_negative_and_move_when_the_optimizer_has_stepped():
    torch.manual_seed(0)
    gate = favour_the_first(DualPrice(16, 8))
    gate(skewed_tokens())
    assert not gate.price.any()
    gate.after_step()
    assert (gate.price >= 0).all()
    assert gate.price[0] > gate.price[-1] == 0


def test_prices_look_only_back():
    torch.manual_seed(0)
    gate = favour_the_first(DualPrice(16, 8, groups=4))
    x = skewed_tokens(64)
    changed = x.clone()
    changed[32:] = torch.randn(32, 16)
    assert torch.equal(gate(x).dense()[:32], gate(changed).dense()[:32])
