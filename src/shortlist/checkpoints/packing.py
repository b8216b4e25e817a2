"""Packs a checkpoint's tensors into native rows, a few megabytes of the file at a time."""

import numpy as np

from shortlist import _native
from shortlist.checkpoints.base import Checkpoint, StoredTensor

PACK_BYTES = 16 << 20
"""Bytes of the file that packing holds in memory at a time."""


def pack_matrix(
    checkpoint: Checkpoint, name: str, weights: str, arena: _native.Arena, *, tiled: bool = False
) -> _native.Rows:
    """Pack a matrix of the checkpoint, [rows, cols].

    Rows of queries and keys are put in the order of the RoPE kernel (`halves_order`). The file's pages are
    released.

    Parameters
    ----------
    weights
        "q8" or "q4" quantizes float matrices; "" keeps their type.
    arena
        Memory for the packed rows.
    tiled
        Whether to pack in tiles, for a matrix that is always read whole.
    """
    tensor = checkpoint.tensors[name]
    rows, cols = tensor.shape
    if checkpoint.config.rope_interleaved and name.rpartition(".")[2] in ("q", "k"):
        data = halves_order(tensor.data.reshape(rows, -1), checkpoint.config.head_dim)
        return _native.Rows.pack(data.reshape(-1), tensor.type, rows, cols, weights, arena, tiled)
    packer = _native.Packer(tensor.type, rows, cols, weights, arena, tiled)
    row_bytes = tensor.data.nbytes // rows
    step = max(1, PACK_BYTES // row_bytes) * row_bytes
    for start in range(0, tensor.data.nbytes, step):
        tensor = checkpoint.tensors[name]  # looked up anew: is the file still whole?
        piece = tensor.data[start : start + step]
        packer.add(piece)
        checkpoint.release(name, piece)  # otherwise the file's pages stay in memory beside the packed copy
    return packer.finish()


def halves_order(rows: np.ndarray, head_dim: int) -> np.ndarray:
    """Reorder rows [heads * head_dim, ...]: adjacent RoPE pairs become pairs half a head apart.

    Queries and keys are reordered alike, so their products do not change, and one RoPE kernel serves all
    families.
    """
    pairs = rows.reshape(-1, head_dim // 2, 2, rows.shape[-1])
    return np.ascontiguousarray(pairs.transpose(0, 2, 1, 3)).reshape(rows.shape)


def vector(tensor: StoredTensor) -> np.ndarray:
    """A vector of the checkpoint in any stored type, as float32 [n]."""
    packed = _native.Rows.pack(tensor.data, tensor.type, 1, tensor.shape[-1])
    return packed.unpack(np.zeros(1, np.int32))[0]


def matrix_values(tensor: StoredTensor) -> np.ndarray:
    """A small matrix of the checkpoint in any stored type, as float32 [rows, cols]."""
    rows, cols = tensor.shape
    return unpacked(_native.Rows.pack(tensor.data, tensor.type, rows, cols))


def pack_floats(
    values: np.ndarray, weights: str, arena: _native.Arena | None = None, *, tiled: bool = False
) -> _native.Rows:
    """A matrix that was computed, float [rows, cols], packed as `weights` says."""
    data = np.ascontiguousarray(values, np.float32).view(np.uint8).reshape(-1)
    rows, cols = values.shape
    return _native.Rows.pack(data, "F32", rows, cols, weights, arena, tiled)


def unpacked(rows: _native.Rows) -> np.ndarray:
    """Every row, float32 [rows, cols]."""
    return rows.unpack(np.arange(rows.rows, dtype=np.int32))
