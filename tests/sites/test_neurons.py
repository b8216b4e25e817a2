"""Shortlisted FFNs against dense ones, in the decoder and alone."""

import numpy as np
import pytest
from builders import tiny_gguf, tiny_hf
from hypothesis import given, settings
from hypothesis import strategies as st

from shortlist import _native
from shortlist.checkpoints import open_checkpoint
from shortlist.errors import UsageError
from shortlist.model.decoder import Decoder

TOKENS = np.array([5, 17, 200, 3, 3, 99, 250, 7, 31, 64, 128, 2, 11, 90], np.int32)
MODELS = [("llama", {"hidden_act": "relu"}), ("qwen3", {"hidden_act": "relu2"}), ("arcee", {})]
ODD = {"hidden_size": 60, "intermediate_size": 70, "head_dim": 10, "num_attention_heads": 6}


def decoded(path, **options) -> tuple[np.ndarray, Decoder]:
    """Hidden states of TOKENS, the first four at once and the others one by one."""
    with open_checkpoint(path) as checkpoint:
        decoder = Decoder(checkpoint, **options)
    cache = decoder.new_cache(64, full_precision=True)
    pieces = [TOKENS[:4], *np.split(TOKENS[4:], len(TOKENS) - 4)]
    return np.concatenate([decoder.forward(piece, cache) for piece in pieces]), decoder


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("sizes", [{}, ODD], ids=["even", "odd"])
@pytest.mark.parametrize(("family", "settings"), MODELS, ids=[family for family, _ in MODELS])
def test_a_shortlisted_ffn_equals_transformers(family, settings, sizes, tmp_path):
    import torch

    model = tiny_hf(family, tmp_path, **settings, **sizes)
    with torch.no_grad():
        expected = model.model(torch.tensor(TOKENS[None].astype(np.int64))).last_hidden_state[0].numpy()
    for ffn in ("dense", "exact"):
        hidden, decoder = decoded(tmp_path, ffn=ffn, threads=2)
        assert decoder.ffn == ffn
        assert relative_error(hidden, expected) < 1e-4
    with open_checkpoint(tmp_path) as checkpoint:
        assert Decoder(checkpoint).ffn == "exact"
    config = decoder.config
    assert 0.2 < decoder.neurons_read / (len(TOKENS) * config.layers * config.ffn_width) < 0.8


@pytest.mark.parametrize("ffn", ["exact", "estimated"])
def test_the_output_does_not_depend_on_the_number_of_threads(ffn, tmp_path):
    tiny_hf(
        "llama", tmp_path, hidden_act="relu", hidden_size=192, intermediate_size=500, num_attention_heads=6
    )
    alone, _ = decoded(tmp_path, ffn=ffn, weights="q8", threads=1)
    for threads in (2, 3):
        assert np.array_equal(decoded(tmp_path, ffn=ffn, weights="q8", threads=threads)[0], alone)


@pytest.mark.parametrize(("family", "settings"), MODELS, ids=[family for family, _ in MODELS])
def test_estimates_leave_the_neurons_that_fire(family, settings, tmp_path):
    tiny_hf(family, tmp_path, **settings, intermediate_size=500)
    exact, first = decoded(tmp_path, ffn="exact", weights="q8")
    estimated, second = decoded(tmp_path, ffn="estimated", weights="q8")
    assert relative_error(estimated, exact) < 1e-5  # the gates' kernels add in another order
    assert 0 < first.layer_bytes < first.nbytes - first.embedding.nbytes  # what is read, not what is kept
    assert first.neurons_read <= second.neurons_read < 1.5 * first.neurons_read


def test_quantized_down_rows_are_rounded_once_more(tmp_path):
    tiny_gguf("arcee", tmp_path / "m.gguf", "Q8_0", hidden_size=64, intermediate_size=128)
    dense, _ = decoded(tmp_path / "m.gguf", ffn="dense")
    kept, decoder = decoded(tmp_path / "m.gguf")
    assert decoder.ffn == "dense"
    assert np.array_equal(kept, dense)
    exact, decoder = decoded(tmp_path / "m.gguf", ffn="exact")
    assert 0 < relative_error(exact, dense) < 0.03


def test_an_activation_without_zeros_stays_dense(tmp_path):
    tiny_gguf("llama", tmp_path / "m.gguf")
    with open_checkpoint(tmp_path / "m.gguf") as checkpoint:
        assert Decoder(checkpoint).ffn == "dense"
        with pytest.raises(UsageError, match="silu has none: choose dense"):
            Decoder(checkpoint, ffn="exact")
        with pytest.raises(UsageError, match="ffn some is unknown"):
            Decoder(checkpoint, ffn="some")  # pyright: ignore[reportArgumentType]


def pack(weights: np.ndarray, format: str) -> _native.Rows:
    data = np.ascontiguousarray(weights, np.float32).view(np.uint8).reshape(-1)
    return _native.Rows.pack(data, "F32", *weights.shape, format)


def values(rows: _native.Rows) -> np.ndarray:
    return rows.unpack(np.arange(rows.rows, dtype=np.int32)).astype(np.float64)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 40),
    width=st.integers(1, 200),
    formats=st.tuples(*[st.sampled_from(["", "q8", "q4"])] * 3),
    activation=st.sampled_from(["silu", "gelu_tanh", "relu", "relu2"]),
    gated=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_chosen_neurons_equal_numpy(count, width, formats, activation, gated, seed):
    if not gated and activation not in ("relu", "relu2"):
        activation = "relu"
    rng = np.random.default_rng(seed)
    gate, up, down = (pack(rng.normal(size=(count, width)), f) for f in formats)
    neurons = _native.Neurons(gate if gated else None, up, down)
    assert neurons.nbytes == count * neurons.bytes_each
    x = rng.normal(size=width).astype(np.float32)
    listed = np.sort(rng.permutation(count)[: rng.integers(0, count + 1)]).astype(np.int32)
    # The products are those of the matrices alone: tested is where rows lie and what is done with them.
    u, g = up.matvec_rows(x, listed).astype(np.float64), gate.matvec_rows(x, listed).astype(np.float64)
    a = g if gated else u
    positive = np.maximum(a, 0)
    activated = {
        "silu": a / (1 + np.exp(-a)),
        "gelu_tanh": a / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (a + 0.044715 * a**3))),
        "relu": positive,
        "relu2": positive**2,
    }[activation]
    coefficients = activated * u if gated else activated
    expected = coefficients @ values(down)[listed]
    got = neurons.forward(x, listed, activation)
    # A value may be the small difference of a code and a minimum: rounding counts against the row's largest.
    scale = np.abs(coefficients) @ np.abs(values(down)[listed]).max(1) + 1e-6
    assert np.abs(got - expected).max() <= 1e-5 * scale


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 300), width=st.integers(1, 200), seed=st.integers(0, 2**32 - 1))
def test_neurons_at_zero_change_nothing(count, width, seed):
    rng = np.random.default_rng(seed)
    gate, up, down = (pack(rng.normal(size=(count, width)), "q8") for _ in range(3))
    neurons = _native.Neurons(gate, up, down)
    x = rng.normal(size=width).astype(np.float32)
    every = np.arange(count, dtype=np.int32)
    firing = np.flatnonzero(gate.matvec(x) > 0).astype(np.int32)
    assert np.array_equal(neurons.forward(x, firing, "relu"), neurons.forward(x, every, "relu"))


def test_what_does_not_fit_is_refused():
    one, other = pack(np.ones((3, 8)), ""), pack(np.ones((3, 9)), "")
    with pytest.raises(ValueError, match="one row per neuron each, of one width"):
        _native.Neurons(one, other, one)
    neurons = _native.Neurons(None, one, one)
    with pytest.raises(IndexError, match="row 3 of 3"):
        neurons.forward(np.ones(8, np.float32), np.array([3], np.int32), "relu")
    with pytest.raises(ValueError, match="silu needs a gate"):
        neurons.forward(np.ones(8, np.float32), np.array([0], np.int32), "silu")
    with pytest.raises(ValueError, match="neither gate nor up"):
        _native.Neurons(None, None, one).forward(np.ones(8, np.float32), np.array([0], np.int32), "relu")
