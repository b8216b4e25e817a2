"""Metadata values against what the `gguf` library writes, and arrays that are decoded only on demand."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from raw_gguf import STRING, array_key, gguf_file, string

from shortlist.checkpoints.gguf_header import read_header
from shortlist.checkpoints.gguf_metadata import Metadata
from shortlist.checkpoints.mapped import MappedFile
from shortlist.errors import CheckpointError

VALUES = {
    "uint8": 200,
    "int8": -100,
    "uint16": 60_000,
    "int16": -30_000,
    "uint32": 4_000_000_000,
    "int32": -2_000_000_000,
    "float32": 0.5,
    "uint64": 1 << 63,
    "int64": -(1 << 62),
    "float64": 1e-300,
    "bool": True,
    "string": "zażółć 語 🦙",
}
ARRAYS = {"strings": ["a", "", "語"], "ints": [1, -2, 3], "floats": [0.5, -1.0], "bools": [True, False]}


def test_values_are_those_that_were_written(tmp_path: Path):
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for kind, value in VALUES.items():
        getattr(writer, f"add_{kind}")(f"one.{kind}", value)
    for kind, values in ARRAYS.items():
        writer.add_array(f"many.{kind}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()

    metadata = read_header(MappedFile(path)).metadata
    assert dict(metadata.with_prefix("one.")) == {f"one.{kind}": value for kind, value in VALUES.items()}
    assert list(metadata["many.strings"]) == ARRAYS["strings"]
    for kind in ("ints", "floats", "bools"):
        assert isinstance(metadata[f"many.{kind}"], np.ndarray)
    assert metadata.settings("many.") == {f"many.{kind}": values for kind, values in ARRAYS.items()}
    assert len(metadata) == 1 + len(VALUES) + len(ARRAYS)
    assert "many.strings" in metadata
    assert "none" not in metadata


def test_strings_that_are_not_utf8_fail_when_asked_for(tmp_path: Path):
    metadata = _read(tmp_path, array_key("tokens", STRING, 2, string("a") + string(b"\xff")))
    with pytest.raises(CheckpointError, match="in tokens string 1 is not UTF-8"):
        metadata["tokens"]


def test_a_setting_is_not_a_long_array(tmp_path: Path):
    metadata = _read(tmp_path, array_key("llama.block_count", 4, 5000, bytes(20_000)))
    with pytest.raises(CheckpointError, match=r"llama\.block_count has 5000 values"):
        metadata.settings("llama.")


def _read(folder: Path, *keys: bytes) -> Metadata:
    path = folder / "model.gguf"
    path.write_bytes(gguf_file(keys))
    return read_header(MappedFile(path)).metadata
