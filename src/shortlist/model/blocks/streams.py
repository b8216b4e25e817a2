"""Several residual streams around layers (AltUp) and an input of its own for every layer, packed.

The native code that runs it says what it computes: native/blocks/altup.hpp and layer_inputs.hpp.
"""

import numpy as np

from shortlist import _native
from shortlist.checkpoints.packing import matrix_values, vector
from shortlist.model.blocks.base import Packing


def pack_streams(packing: Packing) -> _native.AltUp | None:
    """The streams of a checkpoint; None where it has a single one."""
    config, tensors = packing.config, packing.checkpoint.tensors
    streams = config.streams
    if streams is None:
        return None
    return _native.AltUp(
        width=config.width,
        active=streams.active,
        norm_eps=config.norm_eps,
        activation=config.activation,
        expand=[packing.matrix(f"expand_{i}") for i in range(1, streams.count)],
        merge=[packing.matrix(f"merge_{i}") for i in range(1, streams.count)],
        table=packing.table("input_table"),
        projection=packing.matrix("input_projection"),
        norm=vector(tensors["input_table_norm"]),
        layers=[_layer(packing, i) for i in range(config.layers)],
    )


def _layer(packing: Packing, layer: int) -> tuple[dict[str, _native.Rows], dict[str, np.ndarray]]:
    """The matrices and the vectors of one layer."""
    tensors = packing.checkpoint.tensors
    matrices = {name: packing.matrix(f"layers.{layer}.{name}") for name in ("input_gate", "input_up")}
    vectors = packing.vectors(layer, ("altup_scale", "input_norm"))
    coefficients = {
        name: matrix_values(tensors[f"layers.{layer}.{name}"])
        for name in ("altup_router", "altup_predict", "altup_correct")
    }
    # The router reads its input normed and divided by the width: both go into its weights.
    norm = vector(tensors[f"layers.{layer}.altup_router_norm"])
    coefficients["altup_router"] *= norm / np.float32(packing.config.width)
    return matrices, vectors | {name: values.reshape(-1) for name, values in coefficients.items()}
