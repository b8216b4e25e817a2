"""The key-value pairs of a GGUF file; arrays are decoded on access."""

import mmap
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shortlist import _native
from shortlist.checkpoints.mapped import check_whole
from shortlist.errors import CheckpointError

STRING, ARRAY = 8, 9
SCALARS = {
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
"""Types of values, by their number in the file."""

_MAX_SETTING = 1 << 12  # settings have at most one value for each layer


class StoredArray(NamedTuple):
    """An array in the file: type and number of its elements, and the offset of the first.

    Its creator has checked that the whole array is within the file.
    """

    type: int
    count: int
    start: int


class Metadata(Mapping[str, Any]):
    """Values by key: str, bool, int, float, `_native.Strings`, or NumPy array of numbers.

    Parameters
    ----------
    path
        Path of the file, for messages.
    data
        Content of the file.
    values
        Values by key; arrays as `StoredArray`.
    """

    def __init__(self, path: Path, data: mmap.mmap, values: dict[str, Any]):
        self._path = path
        self._data = data
        self._values = values

    def __getitem__(self, key: str) -> Any:
        value = self._values[key]
        if not isinstance(value, StoredArray):
            return value
        check_whole(self._path, self._data)
        if value.type == STRING:
            return self._strings(key, value)
        dtype = np.dtype(SCALARS[value.type].format)
        return np.frombuffer(self._data, dtype, value.count, value.start)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def shown(self, key: str) -> Any:
        """A value for comparisons and messages; an array is not decoded, but described."""
        value = self._values[key]
        return f"an array of {value.count}" if isinstance(value, StoredArray) else value

    def with_prefix(self, prefix: str) -> "Metadata":
        """The pairs whose keys start with `prefix`."""
        values = {key: value for key, value in self._values.items() if key.startswith(prefix)}
        return Metadata(self._path, self._data, values)

    def settings(self, prefix: str) -> dict[str, Any]:
        """The pairs whose keys start with `prefix`, as plain Python values with arrays as lists.

        Raises
        ------
        CheckpointError
            A value is an array too long for a setting.
        """
        pairs = self.with_prefix(prefix)
        for key, value in pairs._values.items():
            if isinstance(value, StoredArray) and value.count > _MAX_SETTING:
                raise CheckpointError(
                    f"{self._path}: the setting {key} has {value.count} values: fetch the file again"
                )
        return {key: _plain(value) for key, value in pairs.items()}

    def _strings(self, key: str, array: StoredArray) -> _native.Strings:
        try:
            return _native.Strings.read(np.frombuffer(self._data, np.uint8, offset=array.start), array.count)
        except ValueError as error:
            raise CheckpointError(f"{self._path}: in {key} {error}: fetch the file again") from None


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [value[i] for i in range(len(value))] if isinstance(value, _native.Strings) else value
