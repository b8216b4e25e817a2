"""The sums that gates collect between two steps of the optimizer."""

import copy
import warnings

import pytest

torch = pytest.importorskip("torch")

from torch.utils.checkpoint import checkpoint  # noqa: E402

from shortlist.torch import Experts, MoE  # noqa: E402
from shortlist.torch.gates import GATES, WRAPPERS, DualPrice, KMeans, Sigmoid  # noqa: E402
from shortlist.torch.gates.tally import Tally  # noqa: E402

WRONG = [float("nan"), float("inf"), -float("inf")]
COUNTING = ["sigmoid", "dual_price", "k_means"]


def states(count=40, seed=0):
    return torch.randn(count, 16, generator=torch.Generator().manual_seed(seed))


def buffers(gate):
    return {name: buffer.clone() for name, buffer in gate.named_buffers()}


def assert_same(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def placed(name):
    """A gate that has seen one clean step."""
    torch.manual_seed(0)
    gate = GATES[name](16, 4)
    gate(states(), torch.arange(40))
    gate.after_step()
    return gate


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", GATES)
def test_a_step_that_is_not_finite_is_left_out(name, wrong):
    gate = placed(name)
    before = buffers(gate)
    bad = states(seed=1)
    bad[7, 3] = wrong
    for _ in range(2):
        gate(states(seed=2), torch.arange(40))  # of several passes one is enough
        gate(bad, torch.arange(40))
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            gate.after_step()
        assert_same(buffers(gate), before)
    routing = gate(states(seed=3), torch.arange(40))
    assert routing.weights.isfinite().all()
    gate.after_step()
    if name in COUNTING:
        assert any(not torch.equal(now, before[key]) for key, now in buffers(gate).items())
    assert all(b.isfinite().all() for b in gate.buffers())


@pytest.mark.parametrize("name", COUNTING)
def test_the_warning_names_the_gate_and_comes_once(name):
    gate, bad = placed(name), states().fill_(float("nan"))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(3):
            gate(bad)
            gate.after_step()
    assert len(seen) == 1
    assert type(gate).__name__ in str(seen[0].message)
    assert "left out" in str(seen[0].message)


def test_one_bad_token_does_not_move_the_prices_of_its_batch():
    torch.manual_seed(0)
    gate = DualPrice(16, 4, groups=4)
    x = states()
    bad = x.clone()
    bad[0] = float("inf")
    assert torch.equal(gate(x).dense()[1:10], gate(bad).dense()[1:10])
    assert gate(bad).weights[2:].isfinite().all()


@pytest.mark.parametrize("good", [3, 39])
def test_centroids_are_placed_by_finite_states(good):
    torch.manual_seed(0)
    gate, x = KMeans(16, 4), states()
    x[good:] = float("inf")
    gate(x)
    assert bool(gate.weight.any()) == (good == 39)
    assert gate.centroids.isfinite().all()
    assert gate.weight.sum() == (39 if good == 39 else 0)


@pytest.mark.parametrize("name", ["sigmoid", "k_means"])
def test_accumulation_is_as_one_large_batch(name):
    gates = [placed(name) for _ in range(2)]
    for step in range(5):
        x = states(64, seed=10 + step)
        gates[0](x)
        for part in x.split([20, 30, 14]):
            gates[1](part)
        for gate in gates:
            gate.after_step()
    for one, other in zip(gates[0].buffers(), gates[1].buffers(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


def test_prices_move_by_the_mean_of_the_passes_weighted_by_tokens():
    torch.manual_seed(0)
    gate = DualPrice(16, 4)
    first, second = states(10), states(30, seed=1)
    alone = []
    for x in (first, second):
        other = copy.deepcopy(gate)
        other(x)
        other.after_step()
        alone.append(other.price)
    gate(first)
    gate(second)
    gate.after_step()
    torch.testing.assert_close(gate.price, 0.25 * alone[0] + 0.75 * alone[1])


@pytest.mark.parametrize("name", COUNTING)
def test_nothing_moves_without_a_token(name):
    gate = placed(name)
    before = buffers(gate)
    gate.after_step()
    gate(states(0))
    gate.after_step()
    gate.eval()
    gate(states())
    gate.after_step()
    assert_same(buffers(gate), before)


@pytest.mark.parametrize("name", COUNTING)
@pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "non-reentrant"])
def test_what_checkpointing_computes_again_counts_once(name, reentrant):
    gates = [placed(name) for _ in range(2)]
    layers = [MoE(gate, Experts(4, 16, 8)) for gate in gates]
    layers[1].experts.load_state_dict(layers[0].experts.state_dict())
    for step in range(3):
        x = states(seed=step).requires_grad_()
        layers[0](x).sum().backward()
        checkpoint(layers[1], x, use_reentrant=reentrant).sum().backward()
        for gate in gates:
            gate.after_step()
    assert_same(buffers(gates[0]), buffers(gates[1]))


def test_a_copy_starts_with_what_was_counted_and_goes_its_own_way():
    gate = Sigmoid(16, 4)
    gate(states())
    other = copy.deepcopy(gate)
    assert torch.equal(other.load, gate.load)
    other(states())
    assert other.load.sum() == 2 * gate.load.sum() == 160
    gate.after_step()
    assert not gate.load.any()
    assert other.load.any()


def test_counts_keep_their_types_and_move():
    gate = Sigmoid(16, 4).bfloat16()
    gate(states().bfloat16())
    assert gate.load.dtype == torch.int64
    assert gate.load.sum() == 80
    assert gate.to("meta").load.device.type == "meta"
    back = gate.to_empty(device="cpu")
    assert back.load.device.type == "cpu"
    assert not back.load.any()
    assert KMeans(16, 4).bfloat16().tally["sums"].dtype == torch.float32


def test_wrappers_pass_the_step_on_and_leave_bad_ones_out():
    for name in WRAPPERS:
        gate = WRAPPERS[name](Sigmoid(16, 4, rate=0.1))
        bad = states()
        bad[0] = float("nan")
        gate(bad)
        with pytest.warns(UserWarning, match="Sigmoid: a step"):
            gate.after_step()
        assert not gate.gate.bias.any()


def test_a_tally_adds_up_and_forgets():
    tally = Tally("X", load=torch.zeros(2))
    tally.add(torch.ones(3, 1), load=torch.tensor([1.0, 2.0]))
    tally.add(torch.ones(2, 1), load=torch.tensor([1.0, 0.0]))
    taken = tally.take()
    assert taken is not None
    assert taken["load"].tolist() == [2, 2]
    assert int(taken["tokens"]) == 5
    assert tally.take() is None
