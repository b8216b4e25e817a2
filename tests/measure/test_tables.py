"""Tables of a tiny model against what `transformers` sees inside the same model."""

import numpy as np
import pytest
import torch
from builders import tiny_gguf

from shortlist.checkpoints import open_checkpoint
from shortlist.measure.tables import ACTIVATIONS, Tables

CLOSE = 0.02  # keys and values are kept in float16
FIT, TEST = list(range(5, 45)), list(range(60, 80))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model of `transformers`, and a checkpoint with the same weights."""
    path = tmp_path_factory.mktemp("tables") / "tiny.gguf"
    model = tiny_gguf("llama", path, "F32")
    with open_checkpoint(path) as checkpoint:
        yield model, Tables(checkpoint, [], FIT, TEST, threads=1)


def inputs_of_mlp(model, layer, tokens):
    seen = []
    mlp = model.model.layers[layer].mlp
    hook = mlp.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0].numpy()))
    with torch.no_grad():
        model(torch.tensor([tokens]))
    hook.remove()
    return seen[0]


def test_queries_of_a_feed_forward_layer_are_its_inputs_in_the_model(tiny):
    model, tables = tiny
    ffn = tables.ffn(1)
    # The last token of a text predicts nothing, so its state is no query.
    np.testing.assert_allclose(ffn.fit, inputs_of_mlp(model, 1, FIT[:-1]), atol=CLOSE)
    np.testing.assert_allclose(ffn.test, inputs_of_mlp(model, 1, TEST[:-1]), atol=CLOSE)


def test_sizes_are_those_of_what_down_adds(tiny):
    model, tables = tiny
    ffn = tables.ffn(0)
    mlp = model.model.layers[0].mlp
    inputs = torch.tensor(ffn.test)
    with torch.no_grad():
        activations = mlp.act_fn(mlp.gate_proj(inputs)) * mlp.up_proj(inputs)
        columns = mlp.down_proj.weight.norm(dim=0)
    np.testing.assert_allclose(ffn.true_sizes(ffn.test), (activations.abs() * columns).numpy(), rtol=1e-3)
    assert ffn.table.shape == (2 * len(ffn.norms), model.config.hidden_size)


def test_queries_of_the_head_are_final_hidden_states(tiny):
    model, tables = tiny
    head = tables.head()
    with torch.no_grad():
        hidden = model.model(torch.tensor([TEST[:-1]])).last_hidden_state[0].numpy()
    np.testing.assert_allclose(head.test, hidden, atol=CLOSE)
    assert head.rows.rows == model.config.vocab_size


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("silu", torch.nn.functional.silu),
        ("gelu_tanh", lambda x: torch.nn.functional.gelu(x, approximate="tanh")),
        ("relu", torch.relu),
        ("relu2", lambda x: torch.relu(x) ** 2),
    ],
)
def test_activations_are_those_of_torch(name, reference):
    x = np.linspace(-8, 8, 200, dtype=np.float32)
    np.testing.assert_allclose(ACTIVATIONS[name](x), reference(torch.tensor(x)).numpy(), rtol=1e-4, atol=1e-5)


def test_every_activation_of_a_gated_layer_is_there():
    assert set(ACTIVATIONS) == {"silu", "gelu_tanh", "relu", "relu2"}
