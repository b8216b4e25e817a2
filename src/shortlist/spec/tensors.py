"""One tensor of a checkpoint, before it is packed."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class StoredTensor:
    """One tensor, as stored in its file.

    Parameters
    ----------
    name
        Name of the tensor in the file.
    type
        Key of `checkpoints.base.TYPES`.
    shape
        Row-major: `(rows, columns)`, or `(columns,)`.
    data
        uint8 [bytes], a view of the mapped file.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    data: np.ndarray
