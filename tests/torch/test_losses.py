import math

import pytest

torch = pytest.importorskip("torch")

from shortlist.torch import losses  # noqa: E402


def test_load_balance_is_one_where_loads_are_equal_and_the_number_of_experts_where_one_has_all():
    equal = torch.full((8, 4), 0.25)
    assert losses.load_balance(equal, torch.arange(8) % 4) == 1
    one = torch.eye(4)[torch.zeros(8, dtype=torch.int64)]
    assert losses.load_balance(one, torch.zeros(8, 1, dtype=torch.int64)) == 4


def test_load_balance_lowers_the_probability_of_what_is_busy():
    logits = torch.zeros(8, 4, requires_grad=True)
    losses.load_balance(logits.softmax(-1), torch.tensor([0, 0, 0, 0, 0, 1, 2, 3])).backward()
    assert (logits.grad[:, 0] > 0).all()
    assert (logits.grad[:, 1:] < 0).all()


def test_router_z_is_the_square_of_the_normalizers_logarithm():
    assert losses.router_z(torch.zeros(3, 8)).item() == pytest.approx(math.log(8) ** 2)
    assert losses.router_z(torch.full((3, 8), 5.0)).item() == pytest.approx((5 + math.log(8)) ** 2)


def test_entropy_adds_up_over_the_axes_between():
    even, sure = torch.full((1, 4), 0.25), torch.eye(4)[:1]
    assert losses.entropy(even).item() == pytest.approx(math.log(4))
    assert losses.entropy(sure) == 0
    assert losses.entropy(torch.stack((even, even), dim=1)).item() == pytest.approx(2 * math.log(4))


def test_l1_is_the_mean_sum_of_a_token():
    assert losses.l1(torch.tensor([[1.0, -2.0], [0.0, 5.0]])) == 4


def test_no_tokens_lose_nothing():
    none = torch.zeros(0, 4)
    assert losses.load_balance(none, torch.zeros(0, 2, dtype=torch.int64)) == 0
    assert losses.router_z(none) == losses.entropy(none) == losses.l1(none) == 0


def test_losses_of_narrow_logits_are_computed_in_float32():
    logits = torch.linspace(-3, 4, 40).reshape(5, 8).bfloat16()
    exact = losses.router_z(logits.float())
    assert losses.router_z(logits).dtype == torch.float32
    assert losses.router_z(logits) == exact
    assert losses.router_z(logits.double()).dtype == torch.float64
    assert losses.router_z(torch.full((2, 4), 300.0).half()).item() == pytest.approx((300 + math.log(4)) ** 2)
