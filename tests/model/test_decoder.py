"""Logits parity with `transformers`, family by family, on tiny random models in both formats."""

import numpy as np
import pytest
from builders import tiny_gguf, tiny_hf
from safetensors.numpy import load_file, save_file

from shortlist import _native
from shortlist.checkpoints import open_checkpoint
from shortlist.errors import CheckpointError, UsageError
from shortlist.model.decoder import Decoder
from shortlist.sites.head import Head
from shortlist.spec.families import FAMILIES

TOKENS = np.array([5, 17, 200, 3, 3, 99, 250, 7, 31, 64, 128, 2, 11, 90, 41, 8, 77, 301, 12, 6], np.int32)


def reference_logits(model) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model(torch.tensor(TOKENS[None].astype(np.int64))).logits[0].numpy()


def logits(decoder: Decoder, hidden: np.ndarray) -> np.ndarray:
    head = Head(decoder.head_rows, decoder.logit_cap)
    return np.stack([head.logits(h)[0] for h in hidden])


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("write", [tiny_hf, tiny_gguf], ids=["safetensors", "gguf"])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_transformers(family, write, tmp_path):
    path = tmp_path / ("folder" if write is tiny_hf else "model.gguf")
    expected = reference_logits(write(family, path))
    with open_checkpoint(path) as checkpoint:
        decoder = Decoder(checkpoint, threads=2)

    at_once = decoder.forward(TOKENS, decoder.new_cache(64, full_precision=True))
    assert relative_error(logits(decoder, at_once), expected) < 1e-4

    cache = decoder.new_cache(64, full_precision=True)
    one_by_one = np.concatenate([decoder.forward(TOKENS[i : i + 1], cache) for i in range(len(TOKENS))])
    assert relative_error(logits(decoder, one_by_one), expected) < 1e-4

    half_precision = decoder.forward(TOKENS, decoder.new_cache(64))
    # The weights of experts pass the rounding of keys and values on.
    assert relative_error(logits(decoder, half_precision), expected) < (
        2e-3 if decoder.config.mixture else 1e-3
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_checkpoints(dtype, tmp_path):
    from transformers import AutoModelForCausalLM

    tiny_hf("llama", tmp_path, dtype=dtype)
    # Read back, because converting the model in memory rounds its RoPE frequencies too.
    expected = reference_logits(AutoModelForCausalLM.from_pretrained(tmp_path, dtype="float32"))
    with open_checkpoint(tmp_path) as checkpoint:
        decoder = Decoder(checkpoint)
    hidden = decoder.forward(TOKENS, decoder.new_cache(64))
    assert relative_error(logits(decoder, hidden), expected) < 1e-3


def rounded(values: np.ndarray, weights: str) -> np.ndarray:
    """Matrix [rows, cols] as it is after it was quantized."""
    data = np.ascontiguousarray(values, np.float32).view(np.uint8).reshape(-1)
    packed = _native.Rows.pack(data, "F32", *values.shape, weights)
    return packed.unpack(np.arange(len(values), dtype=np.int32))


@pytest.mark.parametrize("weights", ["q8", "q4"])
def test_a_quantized_float_checkpoint_computes_with_the_rounded_weights(weights, tmp_path):
    import torch

    model = tiny_hf("llama", tmp_path)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                kept = "q8" if "embed_tokens" in name or "lm_head" in name else weights
                parameter.copy_(torch.from_numpy(rounded(parameter.numpy(), kept)))
    with open_checkpoint(tmp_path) as checkpoint:
        decoder = Decoder(checkpoint, weights=weights)
    assert decoder.head_rows.format == "q8"
    hidden = decoder.forward(TOKENS, decoder.new_cache(64))
    # Only the rounding of activations to 8 bits is left.
    assert relative_error(logits(decoder, hidden), reference_logits(model)) < 0.06


@pytest.mark.parametrize("weights", ["q8", "q4"])
def test_tiled_weights_at_once_one_by_one_and_on_any_number_of_threads(weights, tmp_path):
    # Sizes that fill neither a tile nor a group, and biases.
    sizes = {"hidden_size": 100, "intermediate_size": 77, "num_attention_heads": 5, "num_key_value_heads": 5}
    tiny_hf("qwen2", tmp_path, **sizes)
    one_by_one = []
    for threads in (1, 2, 3):
        with open_checkpoint(tmp_path) as checkpoint:
            decoder = Decoder(checkpoint, weights=weights, threads=threads)
        cache = decoder.new_cache(64)
        one_by_one.append(np.concatenate([decoder.forward(TOKENS[i : i + 1], cache) for i in range(5)]))
        assert np.array_equal(one_by_one[0], one_by_one[-1])
        for count in (2, 3):  # each token still walks through the rows
            at_once = decoder.forward(TOKENS[:count], decoder.new_cache(64))
            assert np.array_equal(at_once, one_by_one[0][:count])
        at_once = decoder.forward(TOKENS[:5], decoder.new_cache(64))
        assert relative_error(at_once, one_by_one[0]) < 1e-5


def test_a_truncated_cache_continues_as_if_the_rest_had_not_been(tmp_path):
    tiny_gguf("gemma3", tmp_path / "m.gguf")
    with open_checkpoint(tmp_path / "m.gguf") as checkpoint:
        decoder = Decoder(checkpoint)
    cache = decoder.new_cache(64)
    decoder.forward(TOKENS, cache)
    cache.truncate(7)
    again = decoder.forward(TOKENS[7:8], cache)
    fresh = decoder.new_cache(64)
    decoder.forward(TOKENS, fresh)
    fresh.truncate(7)
    assert cache.length == 8
    assert np.array_equal(again, decoder.forward(TOKENS[7:8], fresh))


def test_limits_are_checked_before_work(tmp_path):
    tiny_gguf("llama", tmp_path / "m.gguf")
    with open_checkpoint(tmp_path / "m.gguf") as checkpoint:
        with pytest.raises(UsageError, match="--weights q3 is unknown"):
            Decoder(checkpoint, weights="q3")
        with pytest.raises(UsageError, match="--threads 0 is out of range"):
            Decoder(checkpoint, threads=0)
        decoder = Decoder(checkpoint)
    cache = decoder.new_cache(4)
    with pytest.raises(IndexError, match="row 9999 of 320"):
        decoder.forward(np.array([9999]), cache)
    with pytest.raises(ValueError, match="the cache is full"):
        decoder.forward(TOKENS[:5], cache)
    assert cache.length == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_numbers_are_an_error(value, tmp_path):
    tiny_hf("llama", tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"][3] = value
    save_file(tensors, path, metadata={"format": "pt"})
    with open_checkpoint(tmp_path) as checkpoint:
        decoder = Decoder(checkpoint)
    with pytest.raises(CheckpointError, match="not numbers"):
        decoder.forward(TOKENS, decoder.new_cache(64))
