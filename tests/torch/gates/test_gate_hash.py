import pytest

torch = pytest.importorskip("torch")

from shortlist.errors import UsageError  # noqa: E402
from shortlist.torch.gates import Hash  # noqa: E402


def experts_of(gate, ids):
    return gate(torch.zeros(len(ids), gate.width), ids).experts.view(len(ids), gate.k)


def test_an_id_has_the_same_experts_everywhere():
    ids = torch.arange(1000)
    order = torch.randperm(1000)
    assert torch.equal(experts_of(Hash(4, 8), ids)[order], experts_of(Hash(4, 8), ids[order]))
    assert experts_of(Hash(4, 8), torch.tensor([7, 50000])).tolist() == [[7, 6], [3, 7]]


def test_ids_are_spread_evenly_and_in_another_way_with_another_seed():
    ids = torch.arange(20000)
    chosen = [experts_of(Hash(4, 8, k=1, seed=seed), ids)[:, 0] for seed in (0, 1)]
    for experts in chosen:
        counts = torch.bincount(experts, minlength=8)
        assert counts.max() / counts.min() < 1.1
    both = torch.bincount(8 * chosen[0] + chosen[1], minlength=64)
    assert both.max() / both.min() < 1.6


def test_without_ids_the_error_says_what_to_do():
    with pytest.raises(UsageError, match="call the layer with token_ids"):
        Hash(4, 8)(torch.zeros(3, 4))
