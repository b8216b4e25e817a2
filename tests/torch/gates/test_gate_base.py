"""Properties of a routing, however it was made."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from shortlist.torch.gates import Routing  # noqa: E402


@st.composite
def masked_weights(draw):
    """Weights [tokens, experts] and a mask of pairs, any number of them, none included."""
    tokens, experts = draw(st.integers(0, 12)), draw(st.integers(1, 9))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    weights = torch.randn(tokens, experts, generator=generator)
    return weights, torch.rand(tokens, experts, generator=generator) < draw(st.floats(0, 1))


@given(masked_weights())
def test_a_mask_comes_back_from_the_pairs(case):
    weights, mask = case
    routing = Routing.of_mask(weights, mask)
    assert torch.equal(routing.dense(), weights * mask)
    assert torch.equal(routing.load, mask.sum(0))
    assert (routing.tokens.diff() >= 0).all()
    assert len((routing.tokens * mask.shape[1] + routing.experts).unique()) == mask.sum()
    again = Routing.of_mask(routing.dense(), mask)
    assert torch.equal(again.weights, routing.weights)


@given(st.integers(0, 12), st.integers(1, 9), st.data())
def test_the_best_k_come_back_from_the_pairs(tokens, experts, data):
    k = data.draw(st.integers(1, experts))
    weights, chosen = torch.rand(tokens, experts).topk(k, dim=-1)
    routing = Routing.of_top_k(weights, chosen, experts)
    assert torch.equal(routing.dense(), torch.zeros(tokens, experts).scatter(1, chosen, weights))
    assert torch.equal(routing.tokens, torch.arange(tokens).repeat_interleave(k))
    assert routing.active == (k if tokens else 0)


def test_imbalance_is_the_busiest_experts_share_of_the_mean():
    def imbalance_of(*experts):
        chosen = torch.tensor(experts, dtype=torch.int64)[:, None]
        return Routing.of_top_k(torch.ones_like(chosen), chosen, 4).imbalance

    assert imbalance_of(0, 1, 2, 3) == 1
    assert imbalance_of(0, 0, 1, 2) == 2
    assert imbalance_of(3, 3, 3) == 4
    assert imbalance_of() == 0
