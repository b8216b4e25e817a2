"""Training on several processes is as one process with all their tokens."""

import copy
import warnings

import pytest

torch = pytest.importorskip("torch")

import torch.distributed as dist  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402
from two_processes import assert_equal_everywhere, run_two  # noqa: E402

from shortlist.torch import Experts, MoE, SoftmaxTopK, UnequalExperts, ranks  # noqa: E402
from shortlist.torch.gates import GATES  # noqa: E402
from shortlist.torch.gates.tally import Tally  # noqa: E402
from shortlist.torch.losses import load_balance  # noqa: E402


def tokens(rank, step=0, count=48):
    x = torch.randn(count, 16, generator=torch.Generator().manual_seed(10 * step + rank)) + 0.5
    return x if rank == 0 else -x  # other experts are busy


def state_is_that_of_all_tokens(rank):
    for name in ("sigmoid", "dual_price", "k_means"):
        torch.manual_seed(0)
        gate = GATES[name](16, 4)
        if name == "k_means":
            gate.weight.fill_(1)  # placed already
        whole = copy.deepcopy(gate)
        moe = MoE(gate, Experts(4, 16, 8))
        parallel = DistributedDataParallel(moe) if list(gate.parameters()) else moe
        alone = MoE(whole, Experts(4, 16, 8))
        for step in range(3):
            for part in tokens(rank, step).split(
                [40, 8]
            ):  # gradient accumulation, each with its own all-reduce
                parallel(part).sum().backward()
            gate.after_step()
            for other in range(2):
                for part in tokens(other, step).split([40, 8]):
                    alone(part)
            taken = whole.tally._amounts
            saved = {key: value.clone() for key, value in taken.items()}
            for value in taken.values():
                value.zero_()
            saved.pop("wrong")
            whole.adjust(**saved)
        for key, value in gate.named_buffers():
            assert_equal_everywhere(value)
            torch.testing.assert_close(value, whole.get_buffer(key), rtol=1e-5, atol=1e-5)


def first_placement_is_the_same(rank):
    torch.manual_seed(rank)
    gate = GATES["k_means"](16, 4)
    for gathered in (gate.centroids, gate.weight):
        dist.broadcast(gathered, 0)
    gate(tokens(rank, count=3))  # too few anywhere
    assert not gate.weight.any()
    gate(tokens(rank, count=2 if rank == 0 else 30))
    assert_equal_everywhere(gate.centroids)
    assert gate.weight.sum() == 30
    assert_equal_everywhere(gate.weight)


def a_bad_step_of_one_rank_is_left_out_by_all(rank):
    gate = GATES["sigmoid"](16, 4)
    x = tokens(rank)
    if rank:
        x[0] = float("nan")
    gate(x)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        gate.after_step()
    assert len(seen) == 1
    assert not gate.bias.any()
    gate(tokens(rank))
    gate.after_step()
    assert gate.bias.any()


def a_rank_without_tokens_takes_part(rank):
    gate = GATES["dual_price"](16, 4)
    torch.manual_seed(0)
    gate.router.reset_parameters()
    gate(tokens(0, count=0 if rank else 48))
    gate.after_step()
    assert gate.price.any()
    assert_equal_everywhere(gate.price)


def balance_loss_is_that_of_all_tokens(rank):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(30, 4, generator=generator) + torch.arange(4.0)
    parts = [slice(0, 10), slice(10, 30)]
    own = logits[parts[rank]].clone().requires_grad_()
    chosen = logits.topk(2).indices
    loss = load_balance(own.softmax(-1), chosen[parts[rank]])
    loss.backward()
    assert_equal_everywhere(loss)
    with torch.no_grad():
        local = load_balance(own.softmax(-1), chosen[parts[rank]])  # waits for nobody
    assert local != loss
    dist.barrier()
    whole = logits.clone().requires_grad_()
    world = dist.new_group([0, 1])
    mass = whole.softmax(-1)
    shares = torch.bincount(chosen.flatten(), minlength=4) / chosen.numel()
    expected = 4 * (shares * mass.mean(0)).sum()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(own.grad / 2, whole.grad[parts[rank]])  # data parallelism takes the mean
    again = load_balance(own.softmax(-1), chosen[parts[rank]], world)
    torch.testing.assert_close(again, expected)


def a_group_of_its_own_is_alone(rank):
    groups = [dist.new_group([each]) for each in range(2)]
    torch.manual_seed(0)
    gate = GATES["sigmoid"](16, 4)
    gate.group = groups[rank]
    gate(tokens(rank))
    load = gate.load.clone()
    gate.after_step()
    assert torch.equal(gate.bias.sign(), -(load - load.float().mean()).sign())
    assert copy.deepcopy(gate).group is None
    assert ranks.count_of(groups[rank]) == 1
    assert ranks.count_of() == 2


def fully_sharded(rank):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (2,))
    for make in (lambda: Experts(8, 16, 8), lambda: UnequalExperts(16, [8, 4, 8, 12, 8, 4, 2, 6])):
        models = []
        for sharded in (True, False):
            torch.manual_seed(0)
            model = torch.nn.Sequential(torch.nn.Linear(16, 16), MoE(SoftmaxTopK(16, 8), make()))
            if sharded:
                fully_shard(model[1], mesh=mesh)
                fully_shard(model, mesh=mesh)
            models.append(model)
        for model in models:
            for _ in range(2):
                model(tokens(0)).square().sum().backward()
        for (name, one), other in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
            torch.testing.assert_close(one.grad.full_tensor(), other.grad, msg=name)


def everything(rank):
    for check in CHECKS:
        check(rank)
        dist.barrier()


CHECKS = [
    state_is_that_of_all_tokens,
    first_placement_is_the_same,
    a_bad_step_of_one_rank_is_left_out_by_all,
    a_rank_without_tokens_takes_part,
    balance_loss_is_that_of_all_tokens,
    a_group_of_its_own_is_alone,
    fully_sharded,
]


@pytest.mark.slow
def test_two_processes_train_as_one():
    run_two(everything)  # together, as starting processes takes seconds


def test_one_process_asks_nobody(monkeypatch):
    monkeypatch.setattr(dist, "all_reduce", lambda *_args, **_rest: pytest.fail("a collective"))
    assert ranks.count_of() == 1
    values = torch.arange(3.0)
    total = ranks.sum_over(values)
    assert torch.equal(total, values)
    assert total.data_ptr() != values.data_ptr()
    ranks.share_first(torch.tensor(True), [values])
    tally = Tally("X", load=torch.zeros(2))
    tally.add(torch.ones(1, 1), load=torch.ones(2))
    assert tally.take()


@pytest.fixture
def another_process(monkeypatch):
    """Stands for a second process: what it sends to the next `all_reduce` is put into the list."""
    sent = []
    monkeypatch.setattr(ranks, "count_of", lambda group=None: 2 if group is None else 1)
    monkeypatch.setattr(dist, "all_reduce", lambda own, group: own.add_(sent.pop(0)))
    return sent


def test_the_tally_is_that_of_all_processes(another_process):
    tally = Tally("X", load=torch.zeros(2))
    tally.add(torch.ones(3, 1), load=torch.tensor([1.0, 2.0]))
    another_process += [torch.tensor([5.0, 0.0]), 4, 0]
    taken = tally.take()
    assert taken["load"].tolist() == [6, 2]
    assert int(taken["tokens"]) == 7
    assert not tally["load"].any()  # this process's own, again
    tally.add(torch.ones(3, 1), load=torch.ones(2))
    another_process += [torch.zeros(2), 4, 1]  # where a step is not finite
    with pytest.warns(UserWarning, match="X: a step whose numbers are not finite is left out"):
        assert tally.take() is None


def test_the_balance_loss_is_that_of_all_processes(another_process):
    torch.manual_seed(0)
    whole = torch.randn(30, 4).softmax(-1)
    experts = torch.randint(4, (30, 2))
    expected = load_balance(whole, experts)  # without gradients nobody is asked
    own, other = whole[:10].clone().requires_grad_(), slice(10, 30)
    sent = [torch.bincount(experts[other].flatten(), minlength=4), whole[other].sum(0), torch.tensor([20])]
    another_process.append(torch.cat(sent))
    loss = load_balance(own, experts[:10])
    torch.testing.assert_close(loss, expected)
    loss.backward()
    shares = torch.bincount(experts.flatten(), minlength=4) / 60
    torch.testing.assert_close(own.grad / 2, (4 * shares / 30).expand(10, 4))
    assert load_balance(own, experts[:10], "a group of its own") != loss
