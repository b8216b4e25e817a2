"""One router for all layers: its averages, its state, and what layers see of it."""

import copy
import pickle

import pytest
import torch
from builders import tiny_model

from shortlist.errors import UsageError
from shortlist.torch.converted import GateConfig, MoEConfig, install
from shortlist.torch.shared_router import CHUNK, STATE, SharedRouter
from shortlist.torch.tokens import Tokens, telling, tokens_here


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


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = tiny_model("llama")
    gate = GateConfig("shared_router", k=1, width=8)
    install(model, MoEConfig("read-me", 3, 32, 0, gate, ternary=False, layers=(0, 1)))
    for parameter in model.model.router.parameters():
        torch.nn.init.normal_(parameter)
    return model


A, B = (torch.randint(0, 256, (1, 12), generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))


def chosen(model):
    return [layer.mlp.routing.experts.tolist() for layer in model.model.layers]


def test_decoding_with_a_cache_continues_the_route(model):
    whole = model(A).logits
    routes = chosen(model)
    assert routes[0] == routes[1], "all layers share one route"
    assert len(set(routes[0])) > 1
    start = model(A[:, :8], use_cache=True)
    rest = model(A[:, 8:], past_key_values=start.past_key_values).logits
    assert chosen(model)[0] == routes[0][8:]
    torch.testing.assert_close(rest, whole[:, 8:], rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_two_conversations_go_on_each_from_its_own_state(model):
    expected = []
    for ids in (A, B):
        model(ids)
        expected.append(chosen(model)[0][8:])
    caches = [model(ids[:, :8], use_cache=True).past_key_values for ids in (A, B)]
    branch = copy.deepcopy(caches[0])
    for ids, cache, routes in zip((A, B, A), (*caches, branch), (*expected, expected[0]), strict=True):
        model(ids[:, 8:], past_key_values=cache)
        assert chosen(model)[0] == routes


def test_generating_goes_on_from_the_text(model):
    text = model.generate(A, max_new_tokens=6, do_sample=False, pad_token_id=0)
    assert torch.equal(
        text, model.generate(A, max_new_tokens=6, do_sample=False, pad_token_id=0, use_cache=False)
    )


@pytest.mark.parametrize(
    "change", [lambda cache: cache.crop(-3), lambda cache: cache.reorder_cache(torch.tensor([0]))]
)
def test_a_cache_that_was_changed_is_refused(model, change):
    cache = model(A[:, :8], use_cache=True).past_key_values
    change(cache)
    with pytest.raises(UsageError, match="shared router has not read as they are there"):
        model(A[:, 8:], past_key_values=cache)


def test_what_the_router_cannot_read_is_refused(model):
    with pytest.raises(UsageError, match="call the model with input_ids"):
        model(inputs_embeds=torch.randn(1, 4, 64))
    with pytest.raises(UsageError, match="run the whole model"):
        model.model.layers[0].mlp(torch.randn(4, 64))
    with (
        telling(Tokens(A, scores=torch.zeros(12, 3))),
        pytest.raises(UsageError, match="run the whole model"),
    ):
        model.model.layers[0].mlp(torch.randn(4, 64))
    assert tokens_here() is None


def test_a_copy_has_a_router_of_its_own(model):
    other = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    other(A)
    before = chosen(other)
    for parameter in model.model.router.parameters():
        torch.nn.init.zeros_(parameter)
    other(A)
    assert chosen(other) == before
    model(A)
    assert chosen(model) == [[0] * 12] * 2


def test_checkpointed_layers_see_their_own_route(model):
    def gradients():
        model.zero_grad()
        (model(A, labels=A).loss - 0.5 * model(B, labels=B).loss).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    model.train()
    plain = gradients()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    found = gradients()
    for name in plain:
        torch.testing.assert_close(found[name], plain[name], msg=lambda m, name=name: f"{name}: {m}")


def test_undo_takes_the_router_away():
    model = tiny_model("llama")
    names, plain = list(model.state_dict()), model(A).logits
    gate = GateConfig("shared_router", k=1, width=8)
    with install(model, MoEConfig("read-me", 3, 32, 0, gate, ternary=False, layers=(1,))):
        assert "model.router.decay" in model.state_dict()
    assert list(model.state_dict()) == names
    assert torch.equal(model(A).logits, plain)


@pytest.mark.parametrize("before", [True, False])
def test_padding_adds_nothing_to_a_texts_route(model, before):
    text, padding = torch.arange(5, 12)[None], torch.full((1, 4), 3)
    padded = torch.cat([padding, text] if before else [text, padding], dim=1)
    other = torch.arange(40, 40 + padded.shape[1])[None]
    mask = torch.ones(2, padded.shape[1], dtype=torch.long)
    real = slice(4, None) if before else slice(0, len(text[0]))
    mask[0] = 0
    mask[0, real] = 1
    alone = model(text, use_cache=True)
    batch = model(torch.cat([padded, other]), attention_mask=mask, use_cache=True)
    torch.testing.assert_close(batch.logits[0, real], alone.logits[0], rtol=1e-4, atol=1e-4)
    states = [getattr(out.past_key_values.layers[0].keys, STATE) for out in (alone, batch)]
    torch.testing.assert_close(states[1][0], states[0][0], rtol=1e-5, atol=1e-6)
