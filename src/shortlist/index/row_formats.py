"""Storage formats of an index's vectors: float32, or rounded to 8 bits."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from shortlist import _native
from shortlist._native import GROUP  # inputs that share a scale in 8-bit rows

Arrays = dict[str, np.ndarray]


class RowFormat(ABC):
    """Converts vectors to native rows, and rows to the arrays of a file and back."""

    name: ClassVar[str]

    @abstractmethod
    def pack(self, vectors: np.ndarray) -> _native.Rows:
        """Pack vectors float32 [count, width] into rows; count is at least 1."""

    @abstractmethod
    def arrays(self, rows: _native.Rows) -> Arrays:
        """The arrays from which `restore` makes the same rows, bit for bit."""

    @abstractmethod
    def restore(self, arrays: Mapping[str, np.ndarray]) -> _native.Rows:
        """Make rows from the result of `arrays`."""

    @abstractmethod
    def layout(self, count: int, width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Name, dtype and shape of each array."""

    def join(self, parts: list[_native.Rows]) -> _native.Rows:
        """Concatenate rows."""
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
