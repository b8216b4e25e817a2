"""Reads the header of a GGUF file that may be damaged or hostile.

Every length and count is compared with what is left of the file before it is used, so nothing is allocated that the
file does not contain, and every loop ends. Arrays are skipped and decoded when asked for: the vocabulary is most of
the header. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np

from shortlist.checkpoints.base import TYPES, MappedFile
from shortlist.errors import CheckpointError

GGML_TYPES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    6: "Q5_0",
    7: "Q5_1",
    8: "Q8_0",
    12: "Q4_K",
    13: "Q5_K",
    14: "Q6_K",
    30: "BF16",
}
"""Tensor types that can be read, by their number in the file."""

_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_U32, _U64 = _SCALARS[4], _SCALARS[10]

# Far above any real model, low enough that what is kept for them is small.
_MAX_KEYS = 1 << 16
_MAX_TENSORS = 1 << 16
_MAX_NAME = 1 << 12
_MAX_DIMENSIONS = 4


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies: `shape` is row-major, `start` and `end` are offsets in the file."""

    name: str
    type: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """The metadata and tensors of a GGUF file; `end` is the offset behind the last byte that was read for them."""

    metadata: "Metadata"
    tensors: tuple[TensorInfo, ...]
    end: int


class _Array(NamedTuple):
    type: int
    count: int
    start: int


class Metadata(Mapping[str, Any]):
    """The key-value pairs of a GGUF file; arrays are decoded when asked for.

    Strings are str, numbers bool, int or float, arrays of strings lists of str, other arrays NumPy arrays.
    """

    def __init__(self, reader: "_Reader", values: dict[str, Any]):
        self._reader = reader
        self._values = values

    def __getitem__(self, key: str) -> Any:
        value = self._values[key]
        return self._reader.decode_array(value, key) if isinstance(value, _Array) else value

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def is_array(self, key: str) -> bool:
        """Whether the value of `key` is an array."""
        return isinstance(self._values[key], _Array)

    def with_prefix(self, prefix: str) -> "Metadata":
        """The pairs whose keys start with `prefix`."""
        return Metadata(self._reader, {k: v for k, v in self._values.items() if k.startswith(prefix)})


def read_header(file: MappedFile) -> Header:
    """Parse and check the header of a GGUF file.

    Raises
    ------
    CheckpointError
        Not a GGUF file, a version or tensor type that cannot be read, or a header that contradicts the file.
    """
    reader = _Reader(file)
    tensor_count, key_count = reader.preamble()
    metadata = reader.metadata(key_count)
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20 or alignment & (alignment - 1):
        reader.fail(f"its alignment is {alignment}, not a power of two up to 2**20")
    tensors = reader.tensors(tensor_count, alignment)
    return Header(metadata, tensors, reader.position)


class _Reader:
    """A position in the file that only moves over bytes that are there."""

    def __init__(self, file: MappedFile):
        self.path = file.path
        self.data = file.buffer
        self.size = len(file.buffer)
        self.position = 0

    def fail(self, why: str) -> NoReturn:
        raise CheckpointError(f"{self.path} is not a usable GGUF file: {why}; fetch it again, or convert it again")

    def take(self, length: int) -> int:
        """Move over `length` bytes and return where they start."""
        start = self.position
        if length > self.size - start:
            self.fail(f"it ends at byte {self.size}, in the middle of its header")
        self.position = start + length
        return start

    def number(self, kind: struct.Struct) -> Any:
        return kind.unpack_from(self.data, self.take(kind.size))[0]

    def text(self, what: str, longest: int | None = None) -> str:
        length = self.number(_U64)
        if longest is not None and length > longest:
            self.fail(f"{what} is {length} bytes long")
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
            key = self.text("the name of a key", _MAX_NAME)
            if key in values:
                self.fail(f"the key {key} occurs twice")
            values[key] = self.value(key)
        return Metadata(self, values)

    def value(self, key: str) -> Any:
        kind = self.number(_U32)
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.text(f"the value of {key}")
        if kind == _ARRAY:
            return self.skip_array(key)
        self.fail(f"the value of {key} has the unknown type {kind}")

    def skip_array(self, key: str) -> _Array:
        kind, count = self.number(_U32), self.number(_U64)
        array = _Array(kind, count, self.position)
        if kind in _SCALARS:
            self.take(count * _SCALARS[kind].size)
        elif kind == _STRING:
            if count * 8 > self.size - self.position:
                self.fail(f"{key} claims to hold {count} strings")
            self.skip_strings(count)
        else:
            self.fail(f"{key} is an array of type {kind}, which cannot be read")
        return array

    def skip_strings(self, count: int) -> None:
        # Written out because a vocabulary has 262,144 of them: a call of `number` and `take` each costs four times this.
        unpack, data, size, position = _U64.unpack_from, self.data, self.size, self.position
        for _ in range(count):
            if position + 8 > size:
                break
            position += 8 + unpack(data, position)[0]
        self.position = min(position, size)
        self.take(position - self.position)

    def decode_array(self, array: _Array, key: str) -> Any:
        if array.type in _SCALARS:
            dtype = np.dtype(_SCALARS[array.type].format)
            return np.frombuffer(self.data, dtype, array.count, array.start)
        unpack, data, position = _U64.unpack_from, self.data, array.start
        strings = []
        try:
            for _ in range(array.count):
                start = position + 8
                position = start + unpack(data, position)[0]
                strings.append(data[start:position].decode())
        except UnicodeDecodeError:
            self.fail(f"string {len(strings)} of {key} is not UTF-8")
        return strings

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
            found[name] = TensorInfo(name, kind, shape, start, end)
        self.check_overlap(found)
        return tuple(found.values())

    def tensor_entry(self) -> tuple[str, str, tuple[int, ...], int]:
        name = self.text("the name of a tensor", _MAX_NAME)
        dimensions = self.number(_U32)
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            self.fail(f"tensor {name} has {dimensions} dimensions")
        # GGUF lists the fastest-moving dimension first.
        shape = tuple(self.number(_U64) for _ in range(dimensions))[::-1]
        kind, offset = self.number(_U32), self.number(_U64)
        if kind not in GGML_TYPES:
            raise CheckpointError(
                f"{self.path}: tensor {name} has type {_type_name(kind)}, which is not supported; "
                f"supported are {', '.join(TYPES)}"
            )
        if min(shape) < 1:
            self.fail(f"tensor {name} has shape {shape}")
        block = TYPES[GGML_TYPES[kind]][0]
        if shape[-1] % block:
            self.fail(f"tensor {name} has rows of {shape[-1]}, not a multiple of the {block} of {GGML_TYPES[kind]}")
        return name, GGML_TYPES[kind], shape, offset

    def check_overlap(self, tensors: Mapping[str, TensorInfo]) -> None:
        end, last = 0, ""
        for tensor in sorted(tensors.values(), key=lambda t: t.start):
            if tensor.start < end:
                self.fail(f"tensors {last} and {tensor.name} overlap")
            end, last = tensor.end, tensor.name


def _nbytes(kind: str, shape: tuple[int, ...]) -> int:
    # Python integers do not overflow, so a product of absurd dimensions is merely larger than the file.
    block, block_bytes = TYPES[kind]
    count = 1
    for size in shape:
        count *= size
    return count // block * block_bytes


def _type_name(kind: int) -> str:
    from gguf import GGMLQuantizationType  # takes 0.4 s to import, and only this message needs it

    return GGMLQuantizationType(kind).name if kind in list(GGMLQuantizationType) else str(kind)
