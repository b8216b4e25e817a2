"""What gemma3n has around a layer's attention and feed-forward part, packed: streams, layer inputs, LAuReL.

The native code that runs it says what it computes: native/blocks/altup.hpp, layer_inputs.hpp, laurel.hpp.
"""

from typing import Any

import numpy as np

from shortlist import _native
from shortlist.checkpoints.base import Checkpoint
from shortlist.checkpoints.packing import matrix_values, pack_matrix, vector


def pack_streams(
    checkpoint: Checkpoint, weights: str, table_format: str, arena: _native.Arena
) -> dict[str, Any]:
    """What `_native.Decoder.set_altup` takes, for a checkpoint with several streams.

    Parameters
    ----------
    weights
        "q8" or "q4" quantizes float matrices; "" keeps them.
    table_format
        The same for the table of layer inputs, of which a token reads one row.
    arena
        Where the packed rows go.
    """
    streams = checkpoint.config.streams
    assert streams is not None

    def pack(name: str) -> _native.Rows:
        return pack_matrix(checkpoint, name, weights, arena, tiled=True)

    return {
        "active": streams.active,
        "expand": [pack(f"expand_{i}") for i in range(1, streams.count)],
        "merge": [pack(f"merge_{i}") for i in range(1, streams.count)],
        "table": pack_matrix(checkpoint, "input_table", table_format, arena),
        "projection": pack("input_projection"),
        "norm": vector(checkpoint.tensors["input_table_norm"]),
    }


def pack_layer_streams(
    checkpoint: Checkpoint, layer: int, weights: str, arena: _native.Arena
) -> tuple[dict[str, _native.Rows], dict[str, np.ndarray]]:
    """The matrices and the vectors that one layer adds to `_native.Decoder.add_layer`."""

    def name(tensor: str) -> str:
        return f"layers.{layer}.{tensor}"

    matrices = {
        tensor: pack_matrix(checkpoint, name(tensor), weights, arena, tiled=True)
        for tensor in ("laurel_left", "laurel_right", "input_gate", "input_up")
    }
    vectors = {
        tensor: vector(checkpoint.tensors[name(tensor)])
        for tensor in ("laurel_norm", "altup_scale", "input_norm")
    }
    coefficients = {
        tensor: matrix_values(checkpoint.tensors[name(tensor)])
        for tensor in ("altup_router", "altup_predict", "altup_correct")
    }
    # The router reads its input normed and divided by the width: both go into its weights.
    coefficients["altup_router"] *= vector(checkpoint.tensors[name("altup_router_norm")]) / np.float32(
        checkpoint.config.width
    )
    return matrices, vectors | {tensor: values.reshape(-1) for tensor, values in coefficients.items()}
