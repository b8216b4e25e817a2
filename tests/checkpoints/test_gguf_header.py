"""The GGUF header reader against the `gguf` library, and against files that are wrong in one place each."""

import struct
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
from raw_gguf import (
    ARRAY,
    FLOAT32,
    Q8_0,
    STRING,
    UINT32,
    UINT64,
    array_key,
    gguf_file,
    key,
    number_key,
    small_llama,
    string,
    tensor,
    text_key,
)

from shortlist.checkpoints.base import TYPES
from shortlist.checkpoints.gguf_header import GGML_TYPES, read_header
from shortlist.checkpoints.mapped import MappedFile

LLAMA = text_key("general.architecture", "llama")


def test_types_are_those_of_the_gguf_library():
    assert set(GGML_TYPES) > {2, 8, 14, 20}
    for number, kind in GGML_TYPES.items():
        theirs = gguf.GGMLQuantizationType[kind.name]
        assert theirs == number
        assert gguf.GGML_QUANT_SIZES[theirs] == (kind.weights, kind.bytes)
    assert TYPES.keys() - {kind.name for kind in GGML_TYPES.values()} == {"TERNARY"}


@pytest.mark.parametrize("kind", [kind.name for kind in GGML_TYPES.values()])
def test_tensors_are_those_that_the_gguf_library_reads(tmp_path: Path, kind: str):
    path = tmp_path / "model.gguf"
    rng = np.random.default_rng(0)
    block_bytes = TYPES[kind].bytes
    writer = gguf.GGUFWriter(path, "llama")
    for i, rows in enumerate([(), (3,), (2, 3), (5, 1, 2)]):
        raw = rng.integers(0, 256, (*rows, 2 * block_bytes), np.uint8)
        writer.add_tensor(f"tensor{i}", raw, raw_dtype=gguf.GGMLQuantizationType[kind])
    _write(writer)

    file = MappedFile(path)
    ours = read_header(file).tensors
    theirs = gguf.GGUFReader(path).tensors
    assert [t.name for t in ours] == [t.name for t in theirs]
    for our, their in zip(ours, theirs, strict=True):
        assert our.type == kind
        assert our.shape == tuple(reversed(their.shape.tolist()))
        assert file.bytes[our.start : our.end].tobytes() == their.data.tobytes()


@pytest.mark.parametrize("alignment", [8, 32, 256])
def test_alignment_is_respected(tmp_path: Path, alignment: int):
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(alignment)
    for i in range(3):
        writer.add_tensor(f"tensor{i}", np.full(5, i, np.float32))
    _write(writer)
    file = MappedFile(path)
    for i, found in enumerate(read_header(file).tensors):
        assert found.start % alignment == 0
        assert file.bytes[found.start : found.end].view("<f4").tolist() == [i] * 5


def test_version_2_is_read(tmp_path: Path):
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_file([LLAMA], version=2))
    assert read_header(MappedFile(path)).metadata["general.architecture"] == "llama"


HUGE = 1 << 63
TWO_TENSORS = [tensor("a", (16,)), tensor("b", (16,), offset=64)]
WRONG = {
    "no GGUF": (b"\x89PNG\r\n\x1a\n" + bytes(64), "starts with b'\\x89PNG'"),
    "shorter than a magic": (b"GG", "starts with b'GG'"),
    "nothing after the magic": (b"GGUF", "in the middle of its header"),
    "version 1": (gguf_file(version=1), "version 1"),
    "version 4": (gguf_file(version=4), "version 4"),
    "big-endian": (gguf_file(version=3 << 24), "big-endian"),
    "too many tensors": (gguf_file(tensor_count=HUGE), f"{HUGE} tensors"),
    "too many keys": (gguf_file(key_count=HUGE), f"{HUGE} keys"),
    "more keys than there are": (gguf_file([LLAMA], key_count=2, alignment=1), "in the middle"),
    "more tensors than there are": (gguf_file([LLAMA], tensor_count=2, alignment=1), "in the middle"),
    "key twice": (gguf_file([LLAMA, LLAMA]), "general.architecture occurs twice"),
    "endless key": (gguf_file([struct.pack("<Q", HUGE)]), "in the middle"),
    "key without a name": (gguf_file([number_key("", 1)]), "not a name"),
    "long key": (gguf_file([number_key("k" * 300, 1)]), "not a name"),
    "key of several lines": (gguf_file([number_key("a\nb", 1)]), "not a name"),
    "key that is not UTF-8": (gguf_file([key(b"\xff", UINT32, bytes(4))]), "not UTF-8"),
    "value that is not UTF-8": (gguf_file([text_key("name", b"\xff")]), "the value of name is not UTF-8"),
    "endless value": (gguf_file([key("name", STRING, struct.pack("<Q", HUGE))]), "in the middle"),
    "unknown type of value": (gguf_file([key("name", 77, bytes(8))]), "unknown type 77"),
    "unknown type of element": (gguf_file([array_key("name", 77, 1, bytes(8))]), "array of type 77"),
    "array of arrays": (gguf_file([array_key("name", ARRAY, 1, bytes(64))]), "array of type 9"),
    "endless array of numbers": (gguf_file([array_key("name", FLOAT32, HUGE, bytes(8))]), "in the middle"),
    "endless array of strings": (gguf_file([array_key("name", STRING, HUGE, bytes(8))]), f"{HUGE} strings"),
    "string longer than the file": (
        gguf_file([array_key("name", STRING, 2, string("a") + struct.pack("<Q", HUGE))]),
        "in the middle",
    ),
    "fewer strings than claimed": (
        gguf_file([array_key("name", STRING, 3, string("a" * 16) + string(""))], alignment=1),
        "in the middle",
    ),
    "alignment of 12": (gguf_file([number_key("general.alignment", 12)]), "alignment"),
    "alignment of 0": (gguf_file([number_key("general.alignment", 0)]), "alignment"),
    "alignment in words": (gguf_file([text_key("general.alignment", "much")]), "alignment"),
    "alignment of 2**40": (
        gguf_file([key("general.alignment", UINT64, struct.pack("<Q", 1 << 40))]),
        "alignment",
    ),
    "tensor twice": (gguf_file([LLAMA], [TWO_TENSORS[0]] * 2, bytes(256)), "a occurs twice"),
    "tensor without a printable name": (
        gguf_file([LLAMA], [tensor("\x1b[2J", (16,))], bytes(64)),
        "not a name",
    ),
    "tensor without dimensions": (gguf_file([LLAMA], [tensor("a", ())], bytes(64)), "0 dimensions"),
    "tensor of 5 dimensions": (gguf_file([LLAMA], [tensor("a", (1,) * 5)], bytes(64)), "5 dimensions"),
    "tensor of no size": (gguf_file([LLAMA], [tensor("a", (0, 4))], bytes(64)), "shape (0, 4)"),
    "tensor too large": (gguf_file([LLAMA], [tensor("a", (17,))], bytes(64)), "ends at byte"),
    "size overflows": (gguf_file([LLAMA], [tensor("a", (1 << 62, 1 << 62))], bytes(64)), "ends at byte"),
    "offset behind the file": (
        gguf_file([LLAMA], [tensor("a", (16,), offset=1 << 40)], bytes(64)),
        "ends at",
    ),
    "offset overflows": (gguf_file([LLAMA], [tensor("a", (16,), offset=2**64 - 32)], bytes(64)), "ends at"),
    "offset not aligned": (gguf_file([LLAMA], [tensor("a", (8,), offset=4)], bytes(64)), "multiple of 32"),
    "tensors overlap": (
        gguf_file([LLAMA], [tensor("a", (16,)), tensor("b", (16,), offset=32)], bytes(128)),
        "a and b overlap",
    ),
    "row of half a block": (
        gguf_file([LLAMA], [tensor("a", (2, 16), Q8_0)], bytes(64)),
        "multiple of the 32",
    ),
    "unsupported type": (gguf_file([LLAMA], [tensor("a", (256,), 16)], bytes(512)), "IQ2_XXS"),
    "unheard-of type": (gguf_file([LLAMA], [tensor("a", (256,), 4711)], bytes(512)), "4711"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, refused, case: str):
    content, word = WRONG[case]
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    refused(path, str(path), word)


def test_unsupported_types_come_with_those_supported(tmp_path: Path, refused):
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_file([LLAMA], [tensor("a", (256,), 16)], bytes(512)))
    refused(path, *(kind.name for kind in GGML_TYPES.values()))


def test_nothing_is_allocated_for_what_is_only_claimed(tmp_path: Path, refused):
    claims = [
        gguf_file([key("name", STRING, struct.pack("<Q", 1 << 40))]),
        gguf_file([array_key("name", STRING, 1 << 40, bytes(8))]),
        gguf_file([array_key("name", FLOAT32, 1 << 40, bytes(8))]),
        gguf_file([LLAMA], [tensor("a", (1 << 40,))]),
        small_llama(settings={"llama.block_count": 1 << 30}),
        small_llama(settings={"llama.attention.key_length": 1 << 30}),
    ]
    for i, content in enumerate(claims):
        path = tmp_path / f"{i}.gguf"
        path.write_bytes(content)
        tracemalloc.start()
        refused(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1 << 20


def _write(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
