"""Patching tiny random `transformers` models in place."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from shortlist.errors import UsageError
from shortlist.nn import Experts, MoE, SoftmaxTopK, patch


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=40,
    )
    return LlamaForCausalLM(config).eval()


def make(_index, _mlp):
    return MoE(SoftmaxTopK(16, 4), Experts(4, 16, 24))


IDS = torch.arange(10)[None]


def test_undo_restores_the_model_exactly(model):
    before, blocks = model(IDS).logits, [layer.mlp for layer in model.model.layers]
    done = patch(model, make, layers=[0, 2])
    assert isinstance(model.model.layers[0].mlp, MoE)
    assert model.model.layers[1].mlp is blocks[1]
    assert not torch.equal(model(IDS).logits, before)
    assert torch.equal(done.layers[2].token_ids, IDS)
    done.undo()
    done.undo()
    assert [layer.mlp for layer in model.model.layers] == blocks
    assert torch.equal(model(IDS).logits, before)


def test_a_failing_make_leaves_the_model_alone(model):
    blocks = [layer.mlp for layer in model.model.layers]
    with pytest.raises(UsageError, match="no layer 3"):
        patch(model, make, layers=[0, 3])
    assert [layer.mlp for layer in model.model.layers] == blocks


def test_a_model_without_blocks_is_refused():
    with pytest.raises(UsageError, match="Linear has no decoder layers"):
        patch(torch.nn.Linear(2, 2), make)
