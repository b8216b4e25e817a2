"""From a checkpoint's tensor to native rows, a few megabytes of the file at a time."""

import numpy as np

from shortlist import _native
from shortlist.checkpoints.base import Checkpoint, StoredTensor

PACK_BYTES = 16 << 20
"""Bytes of the file that are in memory at a time while a tensor is packed."""


def pack_matrix(
    checkpoint: Checkpoint, name: str, weights: str, arena: _native.Arena, *, tiled: bool = False
) -> _native.Rows:
    """A matrix of the checkpoint, [rows, cols].

    Rows of queries and keys come in the order that the RoPE kernel takes (`halves_order`), and the file's
    pages are given back.

    Parameters
    ----------
    weights
        "q8" or "q4" quantizes float matrices; "" keeps them.
    arena
        Where the packed rows go.
    tiled
        For a matrix that is always read whole.
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
        checkpoint.release(name, piece)  # otherwise the file's pages count beside the packed copy
    return packer.finish()


def halves_order(rows: np.ndarray, head_dim: int) -> np.ndarray:
    """Reorder rows [heads * head_dim, ...]: RoPE pairs that are neighbours become pairs half a head apart.

    Queries and keys move alike, so their products stay the same, and one RoPE kernel serves every family.
    """
    pairs = rows.reshape(-1, head_dim // 2, 2, rows.shape[-1])
    return np.ascontiguousarray(pairs.transpose(0, 2, 1, 3)).reshape(rows.shape)


def vector(tensor: StoredTensor) -> np.ndarray:
    """A vector of the checkpoint as float32 [n], whatever it is stored as."""
    packed = _native.Rows.pack(tensor.data, tensor.type, 1, tensor.shape[-1])
    return packed.unpack(np.zeros(1, np.int32))[0]


def matrix_values(tensor: StoredTensor) -> np.ndarray:
    """A small matrix of the checkpoint as float32 [rows, cols], whatever it is stored as."""
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
