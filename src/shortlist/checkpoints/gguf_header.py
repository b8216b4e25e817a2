"""Reads the header of a GGUF file that may be damaged or hostile.

Every length and count is compared with the rest of the file before it is used, so nothing larger than the
file is allocated, and every loop ends. Arrays are skipped here: most of the header is the vocabulary, which
`Metadata` decodes on access. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from shortlist import _native
from shortlist.checkpoints.base import TYPES
from shortlist.checkpoints.gguf_metadata import ARRAY, SCALARS, STRING, Metadata, StoredArray
from shortlist.checkpoints.mapped import MappedFile
from shortlist.errors import CheckpointError

GGML_TYPES = {kind.number: kind for kind in TYPES.values() if kind.number is not None}
"""Tensor types that can be read, by their number in the file."""

_U32, _U64 = SCALARS[4], SCALARS[10]

# Far above any real model, and low enough to keep the records small.
_MAX_KEYS = 1 << 16
_MAX_TENSORS = 1 << 16
_MAX_NAME = 256
_MAX_DIMENSIONS = 4


@dataclass(frozen=True)
class TensorInfo:
    """The position of a tensor: `shape` is row-major, `start` and `end` are offsets in the file."""

    name: str
    type: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """The metadata and tensors of a GGUF file, and the offset at which the header ends."""

    metadata: Metadata
    tensors: tuple[TensorInfo, ...]
    end: int


def read_header(file: MappedFile) -> Header:
    """Parse and check the header of a GGUF file.

    Raises
    ------
    CheckpointError
        This is no GGUF file, its version or a tensor type cannot be read, or its header contradicts the file.
    """
    reader = _Reader(file)
    tensor_count, key_count = reader.preamble()
    metadata = reader.metadata(key_count)
    alignment = metadata.settings("general.alignment").get("general.alignment", 32)
    if type(alignment) is not int or not 1 <= alignment <= 1 << 20 or alignment & (alignment - 1):
        reader.fail("its alignment is not a power of two up to 2**20")
    tensors = reader.tensors(tensor_count, alignment)
    return Header(metadata, tensors, reader.position)


class _Reader:
    """A position in the file that never moves beyond its end."""

    def __init__(self, file: MappedFile):
        self.path = file.path
        self.data = file.buffer
        self.size = len(file.buffer)
        self.position = 0

    def fail(self, why: str) -> NoReturn:
        raise CheckpointError(
            f"{self.path} is not a usable GGUF file: {why}; fetch it again, or convert it again"
        )

    def fail_cut_short(self) -> NoReturn:
        self.fail(f"it ends at byte {self.size}, in the middle of its header")

    def take(self, length: int) -> int:
        """Move over `length` bytes and return their offset."""
        start = self.position
        if length > self.size - start:
            self.fail_cut_short()
        self.position = start + length
        return start

    def number(self, kind: struct.Struct) -> Any:
        return kind.unpack_from(self.data, self.take(kind.size))[0]

    def name(self, what: str) -> str:
        """Read a name, checked to be short and on one line, fit for a message."""
        start = self.position
        name = self.text(what)
        if not 0 < len(name) <= _MAX_NAME or not name.isprintable():
            self.fail(f"{what} at byte {start} is not a name")
        return name

    def text(self, what: str) -> str:
        length = self.number(_U64)
        start = self.take(length)
        try:
            return self.data[start : start + length].decode()
        except UnicodeDecodeError:
            self.fail(f"{what} is not UTF-8")

    def preamble(self) -> tuple[int, int]:
        if (magic := self.data[:4]) != b"GGUF":
            self.fail(f"it starts with {magic!r} instead of b'GGUF'")
        self.take(4)
        version = self.number(_U32)
        if version & 0xFFFF == 0:
            self.fail("it is big-endian, and only little-endian files can be read")
        if version not in (2, 3):
            self.fail(f"it has version {version}, and only versions 2 and 3 can be read")
        tensor_count, key_count = self.number(_U64), self.number(_U64)
        if tensor_count > _MAX_TENSORS or key_count > _MAX_KEYS:
            self.fail(f"it claims to hold {tensor_count} tensors and {key_count} keys")
        return tensor_count, key_count

    def metadata(self, count: int) -> Metadata:
        values: dict[str, Any] = {}
        for _ in range(count):
            key = self.name("the name of a key")
            if key in values:
                self.fail(f"the key {key} occurs twice")
            values[key] = self.value(key)
        return Metadata(self.path, self.data, values)

    def value(self, key: str) -> Any:
        kind = self.number(_U32)
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind == STRING:
            return self.text(f"the value of {key}")
        if kind == ARRAY:
            return self.skip_array(key)
        self.fail(f"the value of {key} has the unknown type {kind}")

    def skip_array(self, key: str) -> StoredArray:
        kind, count = self.number(_U32), self.number(_U64)
        array = StoredArray(kind, count, self.position)
        if kind in SCALARS:
            self.take(count * SCALARS[kind].size)
        elif kind == STRING:
            if count * 8 > self.size - self.position:
                self.fail(f"{key} claims to hold {count} strings")
            self.skip_strings(count)
        else:
            self.fail(f"{key} is an array of type {kind}, which cannot be read")
        return array

    def skip_strings(self, count: int) -> None:
        rest = np.frombuffer(self.data, np.uint8, offset=self.position)
        try:
            self.take(_native.skip_strings(rest, count))
        except ValueError:
            self.fail_cut_short()

    def tensors(self, count: int, alignment: int) -> tuple[TensorInfo, ...]:
        entries = [self.tensor_entry() for _ in range(count)]
        data_start = -(-self.position // alignment) * alignment
        found: dict[str, TensorInfo] = {}
        for name, kind, shape, offset in entries:
            if name in found:
                self.fail(f"tensor {name} occurs twice")
            if offset % alignment:
                self.fail(f"tensor {name} does not start at a multiple of {alignment} bytes")
            start = data_start + offset
            end = start + _nbytes(kind, shape)
            if end > self.size:
                self.fail(f"tensor {name} ends at byte {end}, but the file has {self.size}")
            found[name] = TensorInfo(name, kind.name, shape, start, end)
        self.check_overlap(found)
        return tuple(found.values())

    def tensor_entry(self) -> tuple[str, _native.TensorType, tuple[int, ...], int]:
        name = self.name("the name of a tensor")
        dimensions = self.number(_U32)
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            self.fail(f"tensor {name} has {dimensions} dimensions")
        # GGUF lists the innermost dimension first.
        shape = tuple(self.number(_U64) for _ in range(dimensions))[::-1]
        kind, offset = self.number(_U32), self.number(_U64)
        if kind not in GGML_TYPES:
            raise CheckpointError(
                f"{self.path}: tensor {name} has type {_type_name(kind)}, which is not supported; "
                f"supported are {', '.join(known.name for known in GGML_TYPES.values())}"
            )
        if min(shape) < 1:
            self.fail(f"tensor {name} has shape {shape}")
        found = GGML_TYPES[kind]
        if shape[-1] % found.weights:
            self.fail(
                f"tensor {name} has rows of {shape[-1]}, not a multiple of the {found.weights} "
                f"of {found.name}"
            )
        return name, found, shape, offset

    def check_overlap(self, tensors: Mapping[str, TensorInfo]) -> None:
        end, last = 0, ""
        for tensor in sorted(tensors.values(), key=lambda t: t.start):
            if tensor.start < end:
                self.fail(f"tensors {last} and {tensor.name} overlap")
            end, last = tensor.end, tensor.name


def _nbytes(kind: _native.TensorType, shape: tuple[int, ...]) -> int:
    # Python integers do not overflow, so absurd dimensions give a size larger than the file.
    count = 1
    for size in shape:
        count *= size
    return count // kind.weights * kind.bytes


def _type_name(kind: int) -> str:
    from gguf.constants import GGMLQuantizationType  # the import takes 0.4 s, and only this message needs it

    return GGMLQuantizationType(kind).name if kind in list(GGMLQuantizationType) else str(kind)
