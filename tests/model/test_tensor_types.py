"""Models of every tensor type, from the file to the logits, beside the float model of the same values."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from typer.testing import CliRunner

from shortlist import _native, checkpoints
from shortlist.checkpoints.base import TYPES
from shortlist.cli import app
from shortlist.measure.random_blocks import random_rows
from shortlist.measure.synthetic import Shape, _add_tokenizer, _describe
from shortlist.model.decoder import Decoder
from shortlist.sites.head import Head

NEW = ("Q2_K", "Q3_K", "IQ4_NL", "IQ4_XS", "MXFP4")
SHAPE = Shape(
    gguf.GGMLQuantizationType.F32, layers=2, width=256, ffn_width=512, heads=4, kv_heads=2, vocab_size=300
)
TOKENS = np.array([3, 99, 299, 4, 4], np.int32)


def write_models(folder: Path, name: str) -> tuple[Path, Path]:
    """One model in which every matrix is of a type, embedding and head included, and the same in F32."""
    kind, rng = gguf.GGMLQuantizationType[name], np.random.default_rng(7)
    matrices = [("token_embd.weight", SHAPE.vocab_size, SHAPE.width), *SHAPE.matrices()]
    data = {matrix: random_rows(rng, rows, columns, kind) for matrix, rows, columns in matrices}
    paths = folder / f"{name}.gguf", folder / "F32.gguf"
    for path in paths:
        writer = gguf.GGUFWriter(path, "llama")
        _describe(writer, SHAPE)
        _add_tokenizer(writer, SHAPE.vocab_size)
        for norm in SHAPE.norms():
            writer.add_tensor(norm, np.ones(SHAPE.width, np.float32))
        for matrix, blocks in data.items():
            if path.stem == "F32":
                writer.add_tensor(matrix, gguf.quants.dequantize(blocks, kind))
            else:
                writer.add_tensor(matrix, blocks, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return paths


def logits(path: Path) -> np.ndarray:
    with checkpoints.open_checkpoint(path) as checkpoint:
        decoder = Decoder(checkpoint, threads=1)
    hidden = decoder.forward(TOKENS, decoder.new_cache(16))
    return np.stack([Head(decoder.head_rows).logits(each)[0] for each in hidden])


@pytest.mark.parametrize("name", [*NEW, "Q4_K", "Q6_K"])
def test_logits_are_those_of_the_float_model_of_the_same_values(name: str, tmp_path: Path) -> None:
    ours, floats = (logits(path) for path in write_models(tmp_path, name))
    assert floats.std() > 0.3
    # Rounding activations to 8 bits moves logits by about 1 % of their deviation.
    assert np.abs(ours - floats).max() < 0.08 * floats.std()
    assert np.corrcoef(ours.ravel(), floats.ravel())[0, 1] > 0.9995


@pytest.mark.parametrize("name", NEW)
def test_inspect_names_the_type(name: str, tmp_path: Path) -> None:
    path, _ = write_models(tmp_path, name)
    done = CliRunner().invoke(app, ["inspect", str(path), "--json"])
    assert done.exit_code == 0, done.output
    assert name in json.dumps(json.loads(done.output))


@pytest.mark.parametrize("name", NEW)
def test_packed_matrices_are_hardly_larger_than_in_the_file(name: str) -> None:
    kind = TYPES[name]
    data = random_rows(np.random.default_rng(0), 64, 1024, gguf.GGMLQuantizationType[name]).reshape(-1)
    for tiled in (False, True):
        rows = _native.Rows.pack(data, name, 64, 1024, tiled=tiled)
        assert rows.format == kind.packed
        assert data.nbytes <= rows.nbytes <= 1.04 * data.nbytes
