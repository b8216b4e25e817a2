"""Damaged GGUF files: the reader opens each or refuses it, at once and in little memory."""

import math
import struct
import tempfile
import tracemalloc
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from raw_gguf import LLAMA_SHAPES, small_llama

from shortlist.checkpoints import open_checkpoint
from shortlist.checkpoints.gguf_metadata import Metadata
from shortlist.errors import CheckpointError

WHOLE = small_llama()
HEADER_END = len(WHOLE) - sum(4 * math.prod(shape) for shape in LLAMA_SHAPES.values())
SPARE_BYTES = 4 << 20  # what Python needs for the objects of a small header, at the most layers allowed

positions = st.integers(0, HEADER_END - 1)
flips = st.tuples(positions, st.binary(min_size=1, max_size=1))
lengths = st.tuples(
    positions,
    st.sampled_from([0, 1, 7, 2**16, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1]).map(
        lambda n: struct.pack("<Q", n)
    ),
)
small_numbers = st.tuples(positions, st.integers(0, 40).map(lambda n: struct.pack("<I", n)))
changes = st.lists(st.one_of(flips, lengths, small_numbers), min_size=1, max_size=4)


@settings(max_examples=400, deadline=2000)
@given(changes, st.integers(0, len(WHOLE)) | st.none())
def test_changed_headers(edits: list[tuple[int, bytes]], cut: int | None):
    content = bytearray(WHOLE)
    for position, replacement in edits:
        content[position : position + len(replacement)] = replacement
    _open_or_refuse(bytes(content[:cut]))


@settings(max_examples=100, deadline=2000)
@given(positions, st.binary(max_size=40), st.integers(0, 40))
def test_inserted_and_lost_bytes(position: int, inserted: bytes, lost: int):
    _open_or_refuse(WHOLE[:position] + inserted + WHOLE[position + lost :])


@settings(max_examples=100, deadline=2000)
@given(st.binary(max_size=400))
def test_noise_after_the_magic(noise: bytes):
    _open_or_refuse(b"GGUF" + struct.pack("<I", 3) + noise)


def test_every_truncation_is_refused():
    assert _open_or_refuse(WHOLE)
    for length in [*range(HEADER_END), *range(HEADER_END, len(WHOLE), 97)]:
        assert not _open_or_refuse(WHOLE[:length]), length


def _open_or_refuse(content: bytes) -> bool:
    """Whether the file could be opened; every exception but a one-line refusal fails the test."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        path.write_bytes(content)
        tracemalloc.start()
        try:
            with open_checkpoint(path) as checkpoint:
                for tensor in checkpoint.tensors.values():
                    tensor.data.sum()
                assert isinstance(checkpoint.tokenizer_source, Metadata)
                dict(checkpoint.tokenizer_source)  # decodes all of it
            refusal = ""
        except CheckpointError as error:
            refusal = str(error)
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    assert peak <= len(content) + SPARE_BYTES
    assert len(refusal.splitlines()) <= 1
    return not refusal
