import pytest

torch = pytest.importorskip("torch")

from shortlist.errors import UsageError  # noqa: E402
from shortlist.torch.gates import Activation, EvoMoE, Gumbel, Temperature  # noqa: E402


@pytest.mark.parametrize("kind", [Temperature, Activation, EvoMoE])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_all_experts_at_first_and_at_most_k_in_the_end(kind, k):
    torch.manual_seed(0)
    gate = kind(16, 8, k=k)
    x = torch.randn(200, 16)
    counts = []
    for progress in (0.0, 0.5, 1.0):
        gate.progress = progress
        counts.append(torch.bincount(gate(x).tokens, minlength=200))
    assert (counts[0] == 8).all()
    assert counts[0].sum() > counts[1].sum() > counts[2].sum()
    assert (counts[2] >= 1).all()
    assert (counts[2] <= k).all()


def test_temperature_falls_in_equal_ratios():
    gate = Temperature(4, 4, start=4.0, end=0.25)
    temperatures = []
    for progress in (0, 0.25, 0.5, 0.75, 1):
        gate.progress = progress
        temperatures.append(gate.temperature.item())
    assert temperatures == pytest.approx([4, 2, 1, 0.5, 0.25])


@pytest.mark.parametrize("kind", [EvoMoE, Gumbel])
def test_noise_is_for_training_alone(kind):
    torch.manual_seed(0)
    gate = kind(16, 8)
    gate.progress = 1.0
    x = torch.randn(50, 16)
    assert not torch.equal(gate(x).dense(), gate(x).dense())
    gate.eval()
    assert torch.equal(gate(x).dense(), gate(x).dense())


def test_an_unknown_activation_is_named_with_those_there_are():
    with pytest.raises(UsageError, match="no activation 'cosine' for a gate; there are gelu, sigmoid, tanh"):
        Activation(4, 4, activation="cosine")


def test_straight_through_weights_are_ones_with_the_gradient_of_sigmoids():
    torch.manual_seed(0)
    gate = Gumbel(16, 8, k=3).eval()
    x = torch.randn(20, 16)
    scores = gate.estimate(x)
    routing = gate.select(scores)
    assert set(routing.weights.tolist()) == {1.0}
    aim = torch.randn(20, 8)
    (hard,) = torch.autograd.grad((routing.dense() * aim).sum(), gate.router.weight, retain_graph=True)
    third, fourth = scores.detach().sort(-1, descending=True).values[:, 2:4].unbind(1)
    mark = (third + fourth)[:, None] / 2
    assert torch.equal(routing.dense() > 0, scores > mark)
    soft = ((scores - mark) / gate.temperature).sigmoid() * (scores > mark)
    (wanted,) = torch.autograd.grad((soft * aim).sum(), gate.router.weight)
    torch.testing.assert_close(hard, wanted)
