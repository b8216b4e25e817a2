"""Input channels in the decoder: all of them are the dense model, and a token reads the same in any batch."""

import numpy as np
import pytest
from builders import tiny_gguf, tiny_hf

from shortlist.checkpoints import open_checkpoint
from shortlist.errors import UsageError
from shortlist.estimators import LowRank, Magnitude
from shortlist.model.decoder import Decoder
from shortlist.selectors import Confidence, Threshold
from shortlist.sites.base import MATRICES, Part, sites_of
from shortlist.sites.channels import ChannelSite

TOKENS = np.array([5, 17, 200, 3, 3, 99, 250, 7, 31, 64, 128, 2, 11, 90], np.int32)
ODD = {"hidden_size": 100, "intermediate_size": 77, "num_attention_heads": 5, "num_key_value_heads": 5}


def part(checkpoint, place, estimator=None, threshold=0.0, inputs=None) -> Part:
    estimator = estimator or Magnitude(weighted=False)
    table = ChannelSite(place, checkpoint).table()
    queries = np.ones((1, len(table)), np.float32) if inputs is None else inputs[place]
    return Part(estimator, Threshold(threshold), *table.shape, estimator.fit(table, queries))


def every_part(checkpoint, *arguments, **options) -> dict[str, Part]:
    sites = sorted(site.name for kind in MATRICES for site in sites_of(checkpoint, kind))
    return {name: part(checkpoint, name, *arguments, **options) for name in sites}


def hidden(decoder: Decoder, pieces) -> np.ndarray:
    cache = decoder.new_cache(64, full_precision=True)
    return np.concatenate([decoder.forward(piece, cache) for piece in pieces])


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("weights", [None, "q8", "q4"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3", "arcee"])
def test_all_channels_give_the_dense_model(family, weights, tmp_path):
    sizes = ODD if family == "qwen2" else {}
    tiny_hf(family, tmp_path, **sizes)
    with open_checkpoint(tmp_path) as checkpoint:
        dense = Decoder(checkpoint, weights=weights, ffn="dense", threads=2)
        parts = every_part(checkpoint)
        decoder = Decoder(checkpoint, weights=weights, parts=parts, threads=2)
    # Sums in another order tip the rounding of activations to 8 bits over here and there.
    limit = 1e-3 if weights is None else 1e-2
    assert relative_error(hidden(decoder, [TOKENS]), hidden(dense, [TOKENS])) < limit
    read = decoder.channels_read
    assert read == {place: len(TOKENS) * each.units for place, each in parts.items()}


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q4_0", "Q5_1", "Q8_0"])
def test_a_file_keeps_its_own_quantization(kind, tmp_path):
    tiny_gguf("llama", tmp_path / "m.gguf", kind)
    with open_checkpoint(tmp_path / "m.gguf") as checkpoint:
        dense = Decoder(checkpoint)
        decoder = Decoder(checkpoint, parts=every_part(checkpoint))
    assert relative_error(hidden(decoder, [TOKENS]), hidden(dense, [TOKENS])) < 1e-3


@pytest.mark.parametrize("threads", [1, 3])
def test_a_token_reads_the_same_alone_and_in_a_batch(threads, tmp_path):
    tiny_hf("qwen2", tmp_path, **ODD)
    with open_checkpoint(tmp_path) as checkpoint:
        parts = every_part(checkpoint, Magnitude(weighted=True, rest=4), 0.4, calibration_inputs(checkpoint))
        one, other = (Decoder(checkpoint, weights="q4", parts=parts, threads=threads) for _ in range(2))
    alone = hidden(one, np.split(TOKENS, len(TOKENS)))
    assert np.array_equal(alone, hidden(other, [TOKENS]))
    assert one.channels_read == other.channels_read
    assert one.layer_bytes == other.layer_bytes


def test_thresholds_change_at_run_time_and_bytes_follow(tmp_path):
    tiny_hf("llama", tmp_path)
    with open_checkpoint(tmp_path) as checkpoint:
        decoder = Decoder(checkpoint, weights="q8", parts=every_part(checkpoint))
    full = decoder.layer_bytes  # before any token: everything
    hidden(decoder, [TOKENS])
    assert decoder.layer_bytes == full
    decoder.set_threshold("layers.1.down", 1e9)
    before = decoder.channels_read
    hidden(decoder, [TOKENS])
    after = decoder.channels_read
    assert after["layers.1.down"] == before["layers.1.down"]
    assert after["layers.0.qkv"] == 2 * before["layers.0.qkv"]
    assert full - decoder.layer_bytes > decoder.channel_bytes["layers.1.down"] * 96 / 2  # half of the tokens
    with pytest.raises(UsageError, match=r"layers\.9\.qkv has no shortlist in this decoder"):
        decoder.set_threshold("layers.9.qkv", 0.5)


def test_the_rest_takes_what_is_not_listed(tmp_path):
    tiny_hf("llama", tmp_path)
    with open_checkpoint(tmp_path) as checkpoint:
        inputs = calibration_inputs(checkpoint)
        dense = hidden(Decoder(checkpoint, ffn="dense"), [TOKENS])
        errors = []
        for rest in (0, 4, 16):
            parts = {
                "layers.0.gate_up": part(checkpoint, "layers.0.gate_up", Magnitude(False, rest), 1e9, inputs)
            }
            decoder = Decoder(checkpoint, parts=parts)
            errors.append(relative_error(hidden(decoder, [TOKENS]), dense))
            assert decoder.channels_read == {"layers.0.gate_up": 0}
    assert errors[0] > 1.2 * errors[1] > 2 * errors[2], errors
    assert errors[2] < 0.05  # 16 directions hold all that 14 tokens bring; its factors have 8 bits


def test_inputs_are_those_that_the_thresholds_see(tmp_path):
    tiny_hf("llama", tmp_path)
    with open_checkpoint(tmp_path) as checkpoint:
        inputs = calibration_inputs(checkpoint)
        decoder = Decoder(checkpoint, parts=every_part(checkpoint, None, 0.3))
        seen = decoder.all_inputs(TOKENS)
    assert {place: values.shape for place, values in inputs.items()} == {
        place: (len(TOKENS), each) for place, each in zip(inputs, [64, 64, 64, 96] * 2, strict=True)
    }
    assert decoder.channels_read == {place: (np.abs(v) >= np.float32(0.3)).sum() for place, v in seen.items()}


def calibration_inputs(checkpoint) -> dict[str, np.ndarray]:
    return Decoder(checkpoint, parts=every_part(checkpoint)).all_inputs(TOKENS)


def test_what_the_layers_cannot_run_is_refused(tmp_path):
    tiny_hf("llama", tmp_path)
    with open_checkpoint(tmp_path) as checkpoint:
        good = part(checkpoint, "layers.0.o")
        with pytest.raises(UsageError, match=r"there is no site layers\.7\.qkv in this model"):
            Decoder(checkpoint, parts={"layers.7.qkv": good})
        with pytest.raises(UsageError, match=r"the part of layers\.0\.down has 64 units of width 64"):
            Decoder(checkpoint, parts={"layers.0.down": good})
        low_rank = LowRank(rank=8)
        state = low_rank.fit(np.eye(64, dtype=np.float32), np.eye(64, dtype=np.float32))
        other = Part(low_rank, Confidence(), 64, 64, state)
        with pytest.raises(UsageError, match="no native kernel here: choose magnitude with threshold"):
            Decoder(checkpoint, parts={"layers.0.o": other})


def test_neurons_and_channels_exclude_each_other(tmp_path):
    tiny_hf("arcee", tmp_path)
    with open_checkpoint(tmp_path) as checkpoint:
        parts = {"layers.0.down": part(checkpoint, "layers.0.down")}
        assert Decoder(checkpoint, parts=parts).ffn == "dense"
        with pytest.raises(UsageError, match="ffn exact and a recipe for the channels"):
            Decoder(checkpoint, ffn="exact", parts=parts)
