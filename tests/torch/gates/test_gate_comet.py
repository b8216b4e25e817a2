import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from shortlist.torch.gates import Comet  # noqa: E402
from shortlist.torch.gates.comet import smooth_step  # noqa: E402


def test_the_step_is_exactly_flat_outside_its_window_and_smooth_at_its_ends():
    x = torch.tensor([-3.0, -0.5, 0.0, 0.5, 3.0], requires_grad=True)
    y = smooth_step(x)
    assert y.tolist() == [0, 0, 0.5, 1, 1]
    y.sum().backward()
    assert x.grad.tolist() == [0, 0, 1.5, 0, 0]


@settings(max_examples=30)
@given(experts=st.integers(1, 20), k=st.integers(1, 3), scale=st.sampled_from([0.0, 1.0, 30.0, 1e4]))
def test_a_tree_hands_on_the_whole_token(experts, k, scale):
    torch.manual_seed(experts)
    gate = Comet(4, experts, min(k, experts))
    with torch.no_grad():
        gate.node_weight *= scale
    x = torch.randn(9, 4)
    reached = gate.reached(x)
    assert reached.shape == (9, gate.k, experts)
    torch.testing.assert_close(reached.sum(-1), torch.ones(9, gate.k))
    routing = gate(x)
    torch.testing.assert_close(routing.dense().sum(-1), torch.ones(9))
    assert torch.equal(routing.dense() > 0, (reached > 0).any(1))


def test_hard_trees_leave_one_expert_each():
    torch.manual_seed(0)
    gate = Comet(4, 8, k=2)
    with torch.no_grad():
        gate.node_weight *= 1e6
    routing = gate(torch.randn(50, 4))
    assert (torch.bincount(routing.tokens) <= 2).all()
    assert routing.losses["entropy"] == 0


def test_a_leaf_whose_value_is_far_above_all_that_are_reached_does_no_harm():
    gate = Comet(2, 2, k=1)
    with torch.no_grad():
        gate.node_weight.zero_()
        gate.node_bias.fill_(9.0)  # all go left
        gate.leaf_weight.zero_()
        gate.leaf_bias.copy_(torch.tensor([[0.0, 1e4]]))
    routing = gate(torch.ones(3, 2))
    assert routing.experts.tolist() == [0, 0, 0]
    assert routing.weights.tolist() == [1, 1, 1]
