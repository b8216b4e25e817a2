"""GGUF models as a whole: every family opens, and what is not a model of one is refused."""

import time
from pathlib import Path

import numpy as np
import pytest
from builders import tiny_gguf
from raw_gguf import array_key, gguf_file, small_llama, text_key

from shortlist.checkpoints import open_checkpoint
from shortlist.checkpoints.base import needed_tensors
from shortlist.spec.families import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_opens_with_the_tensors_that_it_needs(tmp_path: Path, family: str):
    path = tmp_path / "model.gguf"
    model = tiny_gguf(family, path)
    with open_checkpoint(path) as checkpoint:
        config = checkpoint.config
        assert FAMILIES[config.family].gguf_architecture == FAMILIES[family].gguf_architecture
        assert checkpoint.tensors.keys() == set(needed_tensors(config))
        if config.mixture is None:  # whose experts are taken apart
            fused = sum(len(parts) - 1 for parts in FAMILIES[family].fused.values()) * config.layers
            assert len(checkpoint.tensors) == len(list(model.parameters())) + fused
        embedding = checkpoint.tensors["embedding"]
        stored = embedding.data.view("<f4").reshape(embedding.shape)
        np.testing.assert_array_equal(stored, model.get_input_embeddings().weight.detach().numpy())


@pytest.mark.parametrize("type", ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_quantized_matrices_keep_their_type(tmp_path: Path, type: str):
    path = tmp_path / "model.gguf"
    tiny_gguf("llama", path, type)
    with open_checkpoint(path) as checkpoint:
        types = {t.type for t in checkpoint.tensors.values() if len(t.shape) == 2}
        assert types == {type}
        assert checkpoint.tensors["final_norm"].type == "F32"


def test_the_tokenizer_is_decoded_on_demand(tmp_path: Path):
    path = tmp_path / "model.gguf"
    path.write_bytes(small_llama())
    with open_checkpoint(path) as checkpoint:
        source = checkpoint.tokenizer_source
        assert not isinstance(source, Path)
        assert list(source["tokenizer.ggml.tokens"]) == ["a", "b", "<s>"]
        assert source["tokenizer.ggml.scores"].tolist() == [0.0, -1.0, -2.0]
        assert "general.architecture" not in source


WRONG = {
    "no architecture": (gguf_file([text_key("general.name", "x")]), "general.architecture is missing"),
    "unknown architecture": (
        small_llama(architecture="mamba"),
        "'mamba', which is not supported; supported are",
    ),
    "architecture of several lines": (small_llama(architecture="a\nb"), r"'a\nb'"),
    "architecture in many words": (
        gguf_file([array_key("general.architecture", 4, 5000, bytes(20_000))]),
        "has 5000 values",
    ),
    "no tensors": (gguf_file([text_key("general.architecture", "llama")]), "token_embd.weight"),
    "tensor missing": (small_llama(shapes={"blk.0.attn_q.weight": None}), "the first is blk.0.attn_q.weight"),
    "layer missing": (small_llama(settings={"llama.block_count": 2}), "lacks 9 of the tensors"),
    "layer too many": (small_llama(shapes={"blk.1.attn_q.weight": (16, 16)}), "beyond the 1 layers"),
    "expert": (small_llama(shapes={"blk.0.ffn_gate_exps.weight": (16, 16)}), "blk.0.ffn_gate_exps.weight"),
    "wrong shape": (
        small_llama(shapes={"blk.0.attn_q.weight": (16, 8)}),
        "has shape (16, 8), but the header",
    ),
    "wrong width": (
        small_llama(settings={"llama.embedding_length": 32}),
        "token_embd.weight has shape (8, 16)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, refused, case: str):
    content, word = WRONG[case]
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    refused(path, str(path), word)


def test_unknown_architectures_come_with_those_supported(tmp_path: Path, refused):
    path = tmp_path / "model.gguf"
    path.write_bytes(small_llama(architecture="mamba"))
    refused(path, *{family.gguf_architecture for family in FAMILIES.values()})


@pytest.mark.slow
def test_the_demo_models_open_fast(smollm2: Path, gemma: Path):
    for path, family in ((smollm2, "llama"), (gemma, "gemma3")):
        started = time.process_time()
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.config.family == family
            assert checkpoint.config.tied_head
        assert time.process_time() - started < 0.3
