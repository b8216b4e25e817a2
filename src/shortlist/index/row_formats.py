"""How an index stores its vectors: as they are, or rounded to 8 bits."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from shortlist import _native

GROUP = 32  # inputs that share a scale in 8-bit rows

Arrays = dict[str, np.ndarray]


class RowFormat(ABC):
    """Native rows of vectors, and the plain arrays that a file holds of them."""

    name: ClassVar[str]

    @abstractmethod
    def pack(self, vectors: np.ndarray) -> _native.Rows:
        """Rows of vectors float32 [count, width], count at least 1."""

    @abstractmethod
    def arrays(self, rows: _native.Rows) -> Arrays:
        """All that `restore` needs to make the same rows, to the last bit."""

    @abstractmethod
    def restore(self, arrays: Mapping[str, np.ndarray]) -> _native.Rows:
        """The rows that `arrays` came from."""

    @abstractmethod
    def layout(self, count: int, width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Name, dtype and shape of each of the arrays."""

    def join(self, parts: list[_native.Rows]) -> _native.Rows:
        """One after the other."""
        if len(parts) == 1:
            return parts[0]
        pieces = [self.arrays(part) for part in parts]
        return self.restore({name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]})


class Float32Rows(RowFormat):
    name = "float32"

    def pack(self, vectors: np.ndarray) -> _native.Rows:
        return _pack(vectors, "")

    def arrays(self, rows: _native.Rows) -> Arrays:
        return {"vectors": rows.unpack(np.arange(rows.rows, dtype=np.int32))}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> _native.Rows:
        return self.pack(arrays["vectors"])

    def layout(self, count: int, width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        return {"vectors": ("float32", (count, width))}


class Int8Rows(RowFormat):
    """Codes from -127 to 127 with one float16 scale per 32 inputs; queries are rounded in the same way."""

    name = "int8"

    def pack(self, vectors: np.ndarray) -> _native.Rows:
        return _pack(vectors, "q8")

    def arrays(self, rows: _native.Rows) -> Arrays:
        codes, scales = _native.unpack_int8(rows)
        return {"codes": codes, "scales": scales.view(np.float16)}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> _native.Rows:
        return _native.Rows.pack_int8(arrays["codes"], arrays["scales"].view(np.uint16))

    def layout(self, count: int, width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        return {"codes": ("int8", (count, width)), "scales": ("float16", (count, -(-width // GROUP)))}


ROW_FORMATS: dict[str, RowFormat] = {kind.name: kind() for kind in (Float32Rows, Int8Rows)}


def _pack(vectors: np.ndarray, target: str) -> _native.Rows:
    data = np.ascontiguousarray(vectors, np.float32).view(np.uint8).reshape(-1)
    return _native.Rows.pack(data, "F32", len(vectors), vectors.shape[1], target)
