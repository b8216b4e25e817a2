"""Decoding mixtures of experts: against `transformers`, by layer and by expert."""

import numpy as np
import pytest
from builders import tiny_gguf, tiny_hf
from model.test_decoder import TOKENS, logits, reference_logits, relative_error

from shortlist.checkpoints import open_checkpoint
from shortlist.errors import UsageError
from shortlist.model.decoder import Decoder


def open_decoder(path, **options) -> Decoder:
    with open_checkpoint(path) as checkpoint:
        return Decoder(checkpoint, **options)


def assert_parity(decoder: Decoder, expected: np.ndarray) -> None:
    at_once = decoder.forward(TOKENS, decoder.new_cache(64, full_precision=True))
    assert relative_error(logits(decoder, at_once), expected) < 1e-4


@pytest.mark.parametrize(
    ("family", "sizes"),
    [
        ("mixtral", {"num_local_experts": 1, "num_experts_per_tok": 1}),
        ("mixtral", {"num_local_experts": 3, "num_experts_per_tok": 3, "intermediate_size": 77}),
        (
            "mixtral",
            {"hidden_size": 100, "num_attention_heads": 5, "num_key_value_heads": 5, "intermediate_size": 33},
        ),
        ("qwen2_moe", {"norm_topk_prob": True, "num_experts_per_tok": 1}),
        ("qwen2_moe", {"num_hidden_layers": 4, "decoder_sparse_step": 2}),
        ("qwen3_moe", {"num_hidden_layers": 4, "mlp_only_layers": [0, 2]}),
        ("qwen3_moe", {"norm_topk_prob": False}),
        ("olmoe", {"norm_topk_prob": True, "num_key_value_heads": 1}),
        ("olmoe", {"num_attention_heads": 1, "num_key_value_heads": 1}),
    ],
)
def test_logits_equal_transformers(family, sizes, tmp_path):
    model = tiny_hf(family, tmp_path, **sizes)
    model.set_experts_implementation("eager")  # which takes any sizes
    decoder = open_decoder(tmp_path)
    assert_parity(decoder, reference_logits(model))
    assert decoder.ffn == "dense"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_experts(dtype, tmp_path):
    from transformers import AutoModelForCausalLM

    tiny_hf("qwen2_moe", tmp_path, dtype=dtype)
    expected = reference_logits(AutoModelForCausalLM.from_pretrained(tmp_path, dtype="float32"))
    assert_parity(open_decoder(tmp_path), expected)


def test_experts_that_are_copies_are_chosen_as_transformers_does(tmp_path):
    import torch

    model = tiny_hf("mixtral", tmp_path, num_local_experts=8)
    with torch.no_grad():  # every score is a tie of two experts
        for layer in model.model.layers:
            layer.mlp.gate.weight[4:] = layer.mlp.gate.weight[:4]
    model.save_pretrained(tmp_path)
    assert_parity(open_decoder(tmp_path), reference_logits(model))


@pytest.mark.parametrize("type", ["Q4_0", "Q8_0"])
def test_quantized_experts_one_by_one_and_on_any_number_of_threads(type, tmp_path):
    tiny_gguf("qwen2_moe", tmp_path / "m.gguf", type, num_hidden_layers=3)
    results = []
    for threads in (1, 2, 3):
        decoder = open_decoder(tmp_path / "m.gguf", threads=threads)
        cache = decoder.new_cache(64)
        results.append(np.concatenate([decoder.forward(TOKENS[i : i + 1], cache) for i in range(8)]))
        results.append(decoder.forward(TOKENS[:8], decoder.new_cache(64)))
    assert all(np.array_equal(results[0], each) for each in results[1:])


@pytest.mark.parametrize(("weights", "tolerance"), [("q8", 0.1), ("q4", 0.6)])
def test_quantizing_float_experts_stays_near_them(weights, tolerance, tmp_path):
    expected = reference_logits(tiny_hf("olmoe", tmp_path))
    decoder = open_decoder(tmp_path, weights=weights)
    hidden = decoder.forward(TOKENS, decoder.new_cache(64))
    assert relative_error(logits(decoder, hidden), expected) < tolerance


def test_loads_and_bytes(tmp_path):
    sizes = {"intermediate_size": 128, "moe_intermediate_size": 64}  # nothing is padded
    model = tiny_hf("qwen2_moe", tmp_path, num_hidden_layers=4, decoder_sparse_step=2, **sizes)
    decoder = open_decoder(tmp_path)
    assert decoder.expert_loads.shape == (2, 6)
    planned = decoder.layer_bytes
    decoder.forward(TOKENS, decoder.new_cache(64))
    decoder.forward(TOKENS[:1], decoder.new_cache(64))
    loads = decoder.expert_loads
    assert loads.sum(axis=1).tolist() == [3 * 21, 3 * 21]

    import torch

    with torch.no_grad():
        routers = model(torch.tensor(TOKENS[None].astype(np.int64)), output_router_logits=True).router_logits
    for layer, scores in enumerate(routers):
        chosen = np.bincount(scores.topk(3).indices.flatten(), minlength=6)
        first = np.bincount(scores[:1].topk(3).indices.flatten(), minlength=6)
        assert np.array_equal(loads[layer], chosen + first)

    attention = 4 * (2 * 64 * 64 + 2 * 32 * 64)
    dense, expert, shared = 3 * 128 * 64, 3 * 64 * 64, 3 * 64 * 64 + 64
    read = 4 * (attention + 2 * (dense + 3 * expert + shared + 6 * 64))
    assert decoder.layer_bytes == planned == read
    assert decoder.nbytes == read + 4 * (2 * 3 * expert + 2 * 320 * 64)


def test_ways_of_dense_layers_are_refused(tmp_path):
    tiny_hf("mixtral", tmp_path, hidden_act="relu")
    for ffn in ("exact", "estimated"):
        with pytest.raises(UsageError, match=f"ffn {ffn} is for dense layers, and this model has experts"):
            open_decoder(tmp_path, ffn=ffn)
    assert open_decoder(tmp_path).ffn == "dense"
