"""A file that is cut while it is mapped is an error, not the end of the process."""

import subprocess
import sys
from pathlib import Path

import pytest
from builders import tiny_gguf, tiny_hf

from shortlist.checkpoints import open_checkpoint
from shortlist.checkpoints.mapped import MappedFile
from shortlist.errors import CheckpointError

LOAD, TOKENIZE = "Decoder(checkpoint)", "Tokenizer.from_checkpoint(checkpoint)"


@pytest.mark.parametrize(("kind", "reader"), [("gguf", LOAD), ("gguf", TOKENIZE), ("folder", LOAD)])
def test_a_file_that_is_cut_between_opening_and_loading(kind: str, reader: str, tmp_path: Path):
    if kind == "gguf":
        path = file = tmp_path / "tiny.gguf"
        tiny_gguf("llama", path)
    else:
        path, file = tmp_path, tmp_path / "model.safetensors"
        tiny_hf("llama", path)
    code = f"""
import os
from shortlist.checkpoints import open_checkpoint
from shortlist.errors import CheckpointError
from shortlist.model.decoder import Decoder
from shortlist.model.tokenizer.tokenizer import Tokenizer
checkpoint = open_checkpoint({str(path)!r})
os.truncate({str(file)!r}, 100)
try:
    {reader}
except CheckpointError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{file} was cut from ")
    assert done.stdout.endswith(" to 100 bytes while it was open: fetch it again\n")


def test_a_file_that_grows_is_read_as_it_was(tmp_path: Path):
    path = tmp_path / "tiny.gguf"
    tiny_gguf("llama", path)
    with open_checkpoint(path) as checkpoint:
        with path.open("ab") as file:
            file.write(b"more")
        assert checkpoint.tensors["embedding"].data.any()
        assert checkpoint.tensors.get("none") is None


def test_a_file_is_checked_against_its_own_length(tmp_path: Path):
    path = tmp_path / "data"
    path.write_bytes(bytes(100))
    file = MappedFile(path)
    file.check()
    with path.open("r+b") as handle:
        handle.truncate(99)
    with pytest.raises(CheckpointError, match="was cut from 100 to 99 bytes"):
        file.check()
