"""Where numbers stop being finite."""

import torch

from shortlist.training.config import MoEConfig
from shortlist.training.not_finite import first_in_forward, first_in_gradients


def test_the_first_module_that_is_not_finite_is_found(build):
    model = build(MoEConfig(experts=2))
    tokens = torch.tensor([[1, 2, 3]])
    assert first_in_forward(model, tokens) is None
    layer = model.model.layers[1]
    with torch.no_grad():
        layer.self_attn.k_proj.weight[0, 0] = float("nan")
        layer.mlp.experts.down_proj.fill_(float("inf"))
    assert first_in_forward(model, tokens) == "model.layers.1.self_attn.k_proj"


def test_the_first_gradient_that_is_not_finite_is_found(build):
    model = build()
    model(input_ids=torch.tensor([[1, 2, 3]])).logits.sum().backward()
    assert first_in_gradients(model) is None
    for layer in model.model.layers:
        layer.mlp.down_proj.weight.grad.fill_(float("inf"))
    assert first_in_gradients(model) == "model.layers.1.mlp.down_proj.weight"
