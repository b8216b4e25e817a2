"""The module in which numbers stop being finite."""

import pytest
import torch

from shortlist.torch.train.config import MoEConfig
from shortlist.torch.train.not_finite import NotFiniteError, check_loss, first_in_forward, first_in_gradients


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


def test_a_loss_is_located_in_the_model_or_in_a_gate(build):
    model, tokens = build(MoEConfig(experts=2)), torch.tensor([[1, 2, 3]])
    fine, nan = torch.tensor(1.0), torch.tensor(float("nan"))
    check_loss(fine, model, tokens, {"load_balance": fine}, 5)
    with pytest.raises(NotFiniteError, match=r"^step 5: .* beginning with the auxiliary loss load_balance$"):
        check_loss(nan, model, tokens, {"load_balance": nan, "router_z": fine}, 5)
    torch.nn.init.constant_(model.model.layers[0].mlp.experts.down_proj, float("inf"))
    with pytest.raises(NotFiniteError, match=r"beginning with the output of model\.layers\.0\.mlp"):
        check_loss(nan, model, tokens, {"load_balance": nan}, 5)
