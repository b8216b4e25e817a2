"""One router for all layers: its averages, its state, and what layers see of it."""

import pytest
import torch
from builders import tiny_model

from shortlist.nn.converted import GateConfig, MoEConfig, install
from shortlist.nn.shared_router import CHUNK, SharedRouter


@pytest.fixture
def router():
    torch.manual_seed(0)
    return SharedRouter(16, 3, rank=8)


def by_hand(router, embedded):
    """Scores of one text, token by token, as the docs of the format define them."""
    state, scores = torch.zeros(router.rank), []
    for e in embedded:
        p = router.project.weight @ e
        state = router.decay * state + (1 - router.decay) * p
        hidden = (router.up.weight @ torch.cat([p, state]) + router.up.bias).relu()
        scores.append(router.down.weight @ hidden + router.down.bias)
    return torch.stack(scores), state


@pytest.mark.parametrize("length", [1, CHUNK, CHUNK + 5])
def test_scores_are_those_of_the_definition(router, length):
    embedded = torch.randn(2, length, 16)
    scores, state = router(embedded)
    for row in range(2):
        expected, last = by_hand(router, embedded[row])
        torch.testing.assert_close(scores[row], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(state[row], last, rtol=1e-4, atol=1e-5)


def test_a_text_in_pieces_is_routed_as_a_whole(router):
    embedded = torch.randn(1, 20, 16)
    whole, _ = router(embedded)
    first, state = router(embedded[:, :7])
    rest, _ = router(embedded[:, 7:], state)
    torch.testing.assert_close(torch.cat([first, rest], dim=1), whole, rtol=1e-4, atol=1e-5)


def test_decoding_with_a_cache_continues_the_route():
    model = tiny_model("llama")
    gate = GateConfig("shared_router", k=1, width=8)
    install(model, MoEConfig("read-me", 3, 32, 0, gate, ternary=False, layers=(0, 1)))
    ids = torch.randint(0, 256, (1, 12), generator=torch.Generator().manual_seed(1))
    whole = model(ids).logits
    start = model(ids[:, :8], use_cache=True)
    rest = model(ids[:, 8:], past_key_values=start.past_key_values).logits
    torch.testing.assert_close(rest, whole[:, 8:], rtol=1e-3, atol=1e-3)
    gates = [layer.mlp.gate for layer in model.model.layers]
    assert torch.equal(gates[0].scores, gates[1].scores), "all layers share one route"
