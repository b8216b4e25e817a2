import warnings

import pytest

torch = pytest.importorskip("torch")

from shortlist.torch.gates import KMeans, Routing  # noqa: E402
from shortlist.torch.gates.k_means import least_squares  # noqa: E402


def clusters(count=400, groups=4, apart=8.0):
    """Points around as many centres, and whose each is."""
    torch.manual_seed(0)
    centres = apart * torch.eye(groups, 6)
    labels = torch.randint(groups, (count,))
    return centres[labels] + torch.randn(count, 6), labels


def joined(experts, labels, groups=4):
    """Whether every group has an expert of its own."""
    pairs = torch.stack((experts, labels), dim=1).unique(dim=0)
    return len(pairs) == groups == len(pairs[:, 0].unique())


def test_groups_that_lie_apart_get_an_expert_each():
    x, labels = clusters()
    gate = KMeans(6, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gate.fit(x)
    assert joined(gate.eval()(x).experts, labels)
    assert gate.separation(x) > 0.5


@pytest.mark.parametrize("width", [2, 16])
def test_a_cloud_without_groups_is_warned_of(width):
    torch.manual_seed(0)
    gate = KMeans(width, 4)
    with pytest.warns(UserWarning, match="300 states fall into no 4 groups"):
        gate.fit(torch.randn(300, width) @ torch.randn(width, width))


def test_least_squares_finds_the_map_of_each_group():
    x, labels = clusters()
    maps = torch.randn(4, 6, 3)
    y = torch.einsum("nw,nwo->no", x, maps[labels])
    routing = Routing.of_top_k(torch.ones(len(x), 1), labels[:, None], 5)
    found = least_squares(x, y, routing)
    torch.testing.assert_close(found[:4], maps, rtol=1e-3, atol=1e-3)
    assert not found[4].any()  # has no tokens


def test_the_first_batch_places_the_centroids():
    x, labels = clusters()
    assert joined(KMeans(6, 4)(x).experts, labels)


def test_centroids_follow_what_moves():
    x, labels = clusters()
    gate = KMeans(6, 4, memory=0.5)
    for step in range(30):
        moved = x + 0.5 * step
        assert joined(gate(moved).experts, labels)
        gate.after_step()
    assert torch.cdist(moved, gate.centroids).amin(-1).mean() < 3


def test_an_expert_without_tokens_stays_where_it_is():
    gate = KMeans(2, 2)
    gate.centroids.copy_(torch.tensor([[0.0, 0.0], [9.0, 9.0]]))
    gate.weight.fill_(1)
    gate(torch.ones(10, 2))
    gate.after_step()
    assert gate.centroids[1].tolist() == [9, 9]
    assert 0 < gate.centroids[0, 0] <= 1


def test_fewer_different_tokens_than_experts():
    gate = KMeans(3, 4)
    with pytest.warns(UserWarning, match="no 4 groups"):
        gate.fit(torch.ones(10, 3))
    assert torch.equal(gate.centroids, torch.ones(4, 3))
    assert gate.eval()(torch.ones(5, 3)).active == 1
