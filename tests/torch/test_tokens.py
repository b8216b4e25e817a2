"""Token ids on their way from a pass to the gates that ask for them."""

import copy
import pickle
import threading
import warnings

import pytest
import torch
import transformers
from torch import nn

from shortlist.errors import UsageError
from shortlist.torch import Experts, MoE, auxiliary_losses, moe_layers, patch
from shortlist.torch.gates import GATES, Hash
from shortlist.torch.tokens import tokens_here

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 40,
}
A = torch.tensor([[3, 5, 3, 9, 4, 4]])
B = torch.tensor([[7, 1, 6, 3, 8, 2]])


def make(index, _mlp):
    return MoE(Hash(16, 4, seed=index), Experts(4, 16, 24))


def patched(kind="Llama", layers=None):
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SIZES)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    patch(model, make, layers)
    return model


def chosen(model):
    return [layer.routing.experts.tolist() for layer in moe_layers(model)]


def expected(ids):
    return [
        Hash(16, 4, seed=seed)(torch.zeros(ids.numel(), 16), ids.flatten()).experts.tolist()
        for seed in (0, 1)
    ]


@pytest.mark.parametrize("kind", ["Llama", "Nemotron"])  # the latter's layers hand nothing on to attention
def test_gates_see_the_ids_of_the_pass(kind):
    model = patched(kind)
    for ids in (A, B):
        model(ids)
        assert chosen(model) == expected(ids)
    assert tokens_here() is None


def test_ids_may_be_given_in_place_to_the_decoder_itself():
    model = patched()
    model.model(A)
    assert chosen(model) == expected(A)


def test_without_ids_the_gate_says_so():
    model = patched()
    model(A)
    with pytest.raises(UsageError, match="chooses by token ids"):
        model(inputs_embeds=torch.randn(1, 6, 16))
    with pytest.raises(UsageError, match="chooses by token ids"):
        model.model(None, inputs_embeds=torch.randn(1, 6, 16))
    with pytest.raises(UsageError, match="chooses by token ids"):
        model.model.layers[0].mlp(torch.randn(6, 16))
    assert tokens_here() is None, "nothing is left of a pass that failed"


def test_ids_that_are_given_to_the_layer_come_first():
    layer = make(0, None)
    layer(torch.randn(6, 16), token_ids=B[0])
    assert layer.routing.experts.tolist() == expected(B)[0]


def test_a_number_of_ids_that_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="5 token ids for 6 states"):
        make(0, None)(torch.randn(6, 16), token_ids=A[0, :5])


def gradients(model, reentrant):
    model.train()
    if reentrant is not None:
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model.enable_input_require_grads()
    first, second = model(A, labels=A).loss, model(B, labels=B).loss
    (first - 0.5 * second).backward()
    return {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("layers", [None, [1]])
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_layers_see_their_own_pass_again(reentrant, layers):
    plain, found = gradients(patched(layers=layers), None), gradients(patched(layers=layers), reentrant)
    for name in plain:
        torch.testing.assert_close(found[name], plain[name], msg=lambda m, name=name: f"{name}: {m}")
    assert tokens_here() is None, "nor is anything left of a layer that was run again"


def test_where_nothing_is_handed_on_a_layer_that_is_run_again_says_so():
    model = patched("Nemotron")
    with pytest.raises(UsageError, match="chooses by token ids"):
        gradients(model, False)


def pickled(model):
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("way", [copy.deepcopy, pickled])
def test_copies_are_on_their_own(way):
    model = patched()
    wanted = model(A).logits
    other = way(model)
    model(B)
    assert torch.equal(other(A).logits, wanted)
    assert chosen(other) == expected(A)
    assert chosen(model) == expected(B)


def test_two_threads_do_not_mix():
    model = patched()
    ready, done = threading.Event(), threading.Event()
    seen = {}

    class Waits(nn.Module):
        def forward(self, x):
            if threading.current_thread() is not threading.main_thread():
                ready.set()
                done.wait(10)
            return x

    model.model.layers[0].post_attention_layernorm = Waits()

    def other():
        model(A)
        seen["other"] = chosen(model)

    thread = threading.Thread(target=other)
    thread.start()
    assert ready.wait(10)
    model(B)
    seen["this"] = chosen(model)
    done.set()
    thread.join()
    assert seen == {"this": expected(B), "other": expected(A)}


def test_undo_stops_it():
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES)).eval()
    seen = []
    model.model.layers[1].self_attn.register_forward_pre_hook(lambda *_: seen.append(tokens_here()))
    with patch(model, make, [1]):
        model(A)
    model(A)
    assert torch.equal(seen[0].ids, A)
    assert seen[1] is None


PAD = 3
MASK = torch.tensor([[0] * PAD + [1] * 6])
PADDED = torch.cat([torch.zeros(1, PAD, dtype=torch.int64), A], dim=1)


def padded_and_plain(kind="Llama", gate="sigmoid"):
    """The same model twice, one that sees padding in front with a mask and one that sees none."""
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        config = getattr(transformers, f"{kind}Config")(**SIZES)
        models.append(getattr(transformers, f"{kind}ForCausalLM")(config).train())
        patch(models[-1], lambda *_: MoE(GATES[gate](16, 4), Experts(4, 16, 24)))
    return models


@pytest.mark.parametrize("kind", ["Llama", "Nemotron"])
@pytest.mark.parametrize("gate", ["softmax", "sigmoid", "dual_price", "k_means", "expert_choice"])
def test_padding_counts_in_no_loss_no_load_and_no_balance(kind, gate):
    padded, plain = padded_and_plain(kind, gate)
    for step in range(2):
        torch.manual_seed(step)
        found = padded(PADDED, attention_mask=MASK).logits[:, PAD:]
        torch.manual_seed(step)
        torch.testing.assert_close(found, plain(A).logits, rtol=1e-4, atol=1e-4)
        assert auxiliary_losses(padded).keys() == auxiliary_losses(plain).keys()
        for name, loss in auxiliary_losses(plain).items():
            torch.testing.assert_close(auxiliary_losses(padded)[name], loss)
        for one, other in zip(moe_layers(padded), moe_layers(plain), strict=True):
            assert torch.equal(one.routing.load, other.routing.load)
            assert one.routing.active == other.routing.active
            assert torch.equal(one.routing.tokens, other.routing.tokens + PAD)
            assert one.routing.shape == (9, 4)
            one.gate.after_step()
            other.gate.after_step()
            for mine, theirs in zip(one.gate.buffers(), other.gate.buffers(), strict=True):
                torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_layers_see_their_own_padding_again(reentrant):
    results = []
    for enabled in (False, True):
        model, _ = padded_and_plain(gate="dual_price")
        if enabled:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            model.enable_input_require_grads()
        first = model(PADDED, attention_mask=MASK).logits[:, PAD:].square().sum()
        second = model(B).logits.square().sum()  # a pass without padding before the first one's backward pass
        (first - second).backward()
        layer = next(moe_layers(model))
        layer.gate.after_step()
        results.append([layer.gate.price, *(p.grad for p in model.parameters())])
    for plain, found in zip(*results, strict=True):
        torch.testing.assert_close(found, plain)


def test_a_mask_covers_the_cache_too_and_is_of_the_last_tokens():
    model, _ = padded_and_plain()
    model.eval()
    cache = model(PADDED, attention_mask=MASK, use_cache=True).past_key_values
    model(B[:, :2], attention_mask=torch.tensor([[0] * PAD + [1] * 6 + [0, 1]]), past_key_values=cache)
    assert next(moe_layers(model)).routing.tokens.tolist() == [1, 1]


def test_a_mask_may_be_given_in_place_and_with_embeddings():
    model, _ = padded_and_plain()
    embedded = model.get_input_embeddings()(PADDED)
    for arguments, rest in (((PADDED, MASK), {}), ((), {"inputs_embeds": embedded, "attention_mask": MASK})):
        model.model(*arguments, **rest)
        assert next(moe_layers(model)).routing.load.sum() == 12
    model.model(PADDED, torch.ones_like(PADDED))
    assert next(moe_layers(model)).routing.padded == 0
    model(PADDED)
    assert next(moe_layers(model)).routing.load.sum() == 18


def test_a_mask_of_another_form_warns_in_training():
    model, _ = padded_and_plain()
    mask = torch.zeros(1, 1, 9, 9)
    with pytest.warns(UserWarning, match="gates count padding as tokens"):
        model(PADDED, attention_mask=mask)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.eval()(PADDED, attention_mask=mask)
