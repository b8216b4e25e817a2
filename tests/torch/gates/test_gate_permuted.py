import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from shortlist.torch.gates import Hash, Permuted, SoftmaxTopK  # noqa: E402
from shortlist.torch.gates.permuted import doubly_stochastic, nearest_permutation  # noqa: E402

permutations = st.integers(1, 12).flatmap(lambda n: st.permutations(range(n)))


@given(st.integers(1, 12), st.integers(0, 2**32))
def test_rounding_gives_a_permutation(size, seed):
    values = torch.randn(size, size, generator=torch.Generator().manual_seed(seed))
    assert sorted(nearest_permutation(values).tolist()) == list(range(size))


@given(permutations, st.integers(0, 2**32))
def test_rounding_finds_what_noise_has_blurred(order, seed):
    noise = torch.rand(len(order), len(order), generator=torch.Generator().manual_seed(seed))
    values = torch.eye(len(order))[list(order)] + 0.9 * noise
    assert nearest_permutation(values).tolist() == list(order)


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(0, 2**32), st.floats(0.1, 3))
def test_rows_and_columns_add_up_to_one(size, seed, scale):
    logits = scale * torch.randn(size, size, generator=torch.Generator().manual_seed(seed))
    matrix = doubly_stochastic(logits, rounds=100)
    assert (matrix >= 0).all()
    torch.testing.assert_close(matrix.sum(0), torch.ones(size))
    torch.testing.assert_close(matrix.sum(1), torch.ones(size), rtol=0.01, atol=0.01)


@given(permutations)
def test_after_the_search_experts_are_renamed_and_nothing_else(order):
    torch.manual_seed(0)
    inner = SoftmaxTopK(4, len(order), k=1)
    gate = Permuted(inner)
    gate.order.copy_(torch.tensor(order))
    gate.progress = 1.0
    x = torch.randn(20, 4)
    renamed = torch.zeros(20, len(order))
    renamed[:, list(order)] = inner(x).dense()
    assert torch.equal(gate(x).dense(), renamed)
    assert torch.equal(gate.select(gate.estimate(x)).dense(), renamed)


def test_at_inference_nothing_is_searched():
    gate = Permuted(SoftmaxTopK(4, 8)).eval()
    routing = gate(torch.randn(20, 4))
    assert routing.active == 2
    gate.after_step()
    assert gate.order.tolist() == list(range(8))


def test_the_search_finds_the_experts_that_a_hash_should_have_had():
    """Expert e outputs e. Ids ask for the output at a place that is not theirs, which a hash cannot learn."""
    torch.manual_seed(0)
    experts, steps = 6, 120
    wanted = torch.tensor([3, 5, 0, 1, 4, 2])
    inner = Hash(4, experts, k=1)
    gate = Permuted(inner, share=0.8)
    optimizer = torch.optim.Adam(gate.parameters(), lr=0.1)
    outputs = torch.eye(experts)
    for step in range(steps):
        gate.progress = step / steps
        ids = torch.randint(1000, (256,))
        x = torch.zeros(256, 4)
        loss = (gate(x, ids).dense() @ outputs - outputs[wanted[inner(x, ids).experts]]).square().mean()
        optimizer.zero_grad()
        if loss.requires_grad:  # not after the search
            loss.backward()
            optimizer.step()
        gate.after_step()
    assert gate.order.tolist() == wanted.tolist()
    assert loss == 0
