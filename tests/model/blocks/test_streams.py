"""gemma3n in the decoder: what its sparse layers leave out is exactly what transformers sets to zero."""

import numpy as np
import pytest
from builders import tiny_gguf, tiny_hf
from hypothesis import given
from hypothesis import strategies as st

from shortlist import _native
from shortlist.checkpoints import open_checkpoint
from shortlist.errors import UsageError
from shortlist.estimators import Scores
from shortlist.model.decoder import Decoder
from shortlist.selectors import StatisticalTopK

TOKENS = np.array(
    [5, 17, 200, 3, 3, 99, 310, 7, 31, 64, 128, 2, 11, 90], np.int32
)  # 310: no inputs of its own


def decoded(path, **options) -> tuple[np.ndarray, Decoder]:
    """Hidden states of TOKENS, the first six at once and the others one by one."""
    with open_checkpoint(path) as checkpoint:
        decoder = Decoder(checkpoint, **options)
    cache = decoder.new_cache(64, full_precision=True)
    pieces = [TOKENS[:6], *np.split(TOKENS[6:], len(TOKENS) - 6)]
    return np.concatenate([decoder.forward(piece, cache) for piece in pieces]), decoder


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def reference(model) -> tuple[np.ndarray, int]:
    """Hidden states of transformers, and the neurons that its sparse layers leave above zero."""
    import torch

    firing = 0

    def count(mlp, inputs):
        nonlocal firing
        if mlp.activation_sparsity > 0:
            firing += int((mlp._gaussian_topk(mlp.gate_proj(inputs[0])) > 0).sum())

    for layer in model.model.layers:
        layer.mlp.register_forward_pre_hook(count)
    with torch.no_grad():
        hidden = model.model(torch.tensor(TOKENS[None].astype(np.int64))).last_hidden_state[0].numpy()
    return hidden, firing


ODD = {
    "hidden_size": 60,
    "intermediate_size": [70, 33, 70, 1, 64, 70],
    "head_dim": 10,
    "num_attention_heads": 6,
}
OTHERS = {
    "two streams, the second active": {"altup_num_inputs": 2, "altup_active_idx": 1},
    "nothing shared": {"num_kv_shared_layers": 0},
    "odd sizes": ODD,
}


@pytest.mark.parametrize("sizes", [{}, *OTHERS.values()], ids=["plain", *OTHERS])
def test_exact_reads_the_neurons_that_transformers_keeps(sizes, tmp_path):
    expected, firing = reference(tiny_hf("gemma3n", tmp_path, **sizes))
    exact, decoder = decoded(tmp_path, threads=2)
    assert decoder.ffn == "exact"
    assert relative_error(exact, expected) < 1e-4
    assert decoder.neurons_read == firing
    assert firing < 0.6 * len(TOKENS) * decoder.listable_neurons
    dense, decoder = decoded(tmp_path, ffn="dense")
    assert decoder.neurons_read == 0
    assert relative_error(dense, exact) < 1e-5  # nothing but the order of additions


@pytest.mark.parametrize("weights", ["q8", "q4"])
@pytest.mark.parametrize("ffn", ["exact", "dense"])
def test_the_output_does_not_depend_on_the_number_of_threads(ffn, weights, tmp_path):
    tiny_hf("gemma3n", tmp_path, hidden_size=96, num_attention_heads=6)
    alone, _ = decoded(tmp_path, ffn=ffn, weights=weights, threads=1)
    for threads in (2, 3):
        assert np.array_equal(decoded(tmp_path, ffn=ffn, weights=weights, threads=threads)[0], alone)


def test_a_token_reads_less_where_layers_are_sparse(tmp_path):
    tiny_hf("gemma3n", tmp_path)
    _, exact = decoded(tmp_path, weights="q8")
    _, dense = decoded(tmp_path, weights="q8", ffn="dense")
    assert exact.layer_bytes < 0.9 * dense.layer_bytes
    assert dense.layer_bytes < dense.nbytes - dense.embedding.nbytes  # without the table of layer inputs


def test_keys_and_values_are_kept_once(tmp_path):
    tiny_hf("gemma3n", tmp_path)
    with open_checkpoint(tmp_path) as checkpoint:
        decoder = Decoder(checkpoint)
    assert decoder.new_cache(8).token_bytes == 4 * 2 * 2 * 32 * 2  # 4 layers, 2 heads, float16


def test_what_a_cutoff_cannot_do(tmp_path):
    tiny_gguf("gemma3n", tmp_path / "m.gguf", "Q8_0", intermediate_size=[96] * 6)
    with open_checkpoint(tmp_path / "m.gguf") as checkpoint:
        assert Decoder(checkpoint).ffn == "dense"  # the down projection would be rounded again
        with pytest.raises(UsageError, match="cutoff is that of all gates"):
            Decoder(checkpoint, ffn="estimated")
    dense, _ = decoded(tmp_path / "m.gguf")
    exact, decoder = decoded(tmp_path / "m.gguf", ffn="exact")
    assert decoder.neurons_read > 0
    assert 0 < relative_error(exact, dense) < 0.03


@given(
    gates=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=300),
    keep=st.floats(0.01, 0.99),
)
def test_the_cutoff_is_that_of_the_statistical_top_k(gates, keep):
    """Its readable twin is `selectors.StatisticalTopK`, up to rounding."""
    from statistics import NormalDist

    values = np.array(gates, np.float64)
    deviations = NormalDist().inv_cdf(1 - keep)
    cutoff = _native.Neurons.cutoff(values.astype(np.float32), deviations)
    slack = 1e-5 * np.abs(values).max() + 1e-30
    assert cutoff == pytest.approx(values.mean() + values.std() * deviations, abs=slack)
    kept = StatisticalTopK(keep).select(Scores(values), lambda rows: values[rows]).indices
    assert (
        set(np.flatnonzero(values > cutoff + slack))
        <= set(kept)
        <= set(np.flatnonzero(values >= cutoff - slack))
    )
