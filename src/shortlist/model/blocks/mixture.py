"""Mixtures of experts: the tensors of one layer, packed for the native decoder."""

import numpy as np

from shortlist import _native
from shortlist._native import GROUP  # weights that share a scale in native rows
from shortlist.checkpoints.base import Checkpoint
from shortlist.checkpoints.experts import TERNARY
from shortlist.checkpoints.packing import pack_matrix, vector
from shortlist.errors import CheckpointError
from shortlist.model.blocks.base import Packing

BLOCK = ("gate", "up", "down")


def pack_mixture(packing: Packing, layer: int) -> _native.Mixture:
    """The experts of one layer, each a few matrices of its own, and their router.

    The router and the gate of the shared expert are never quantized: a rounding there changes which experts
    are chosen.

    Raises
    ------
    CheckpointError
        Codes of ternary experts are none.
    """
    checkpoint, weights, arena = packing.checkpoint, packing.weights, packing.arena
    mixture = checkpoint.config.mixture
    assert mixture is not None
    prefix = f"layers.{layer}"

    def matrix(name: str) -> _native.Rows:
        return pack_matrix(checkpoint, f"{prefix}.{name}", "", arena)

    def block(name: str) -> tuple[_native.Rows | None, ...]:
        names = (f"{prefix}.{name}.{kind}" for kind in BLOCK)
        return tuple(
            _expert_matrix(checkpoint, each, weights, arena) if each in checkpoint.tensors else None
            for each in names
        )

    def values(name: str, there: object) -> np.ndarray | None:
        return vector(checkpoint.tensors[f"{prefix}.{name}"]) if there else None

    return _native.Mixture(
        router=None if mixture.router_rank else matrix("router"),
        experts=[block(f"experts.{i}") for i in range(mixture.experts)],
        per_token=mixture.per_token or 0,
        normalize=mixture.normalize,
        margin=mixture.margin,
        activation=checkpoint.config.activation,
        shared=block("shared") if mixture.shared_width else None,
        shared_gate=matrix("shared_gate") if mixture.shared_gate else None,
        router_hidden=matrix("router_hidden") if mixture.router_width else None,
        router_hidden_bias=values("router_hidden_bias", mixture.router_width),
        router_bias=values("router_bias", mixture.router_width),
        router_price=values("router_price", mixture.prices),
        router_of_all=_shared_router(packing) if mixture.router_rank else None,
    )


def _shared_router(packing: Packing) -> _native.SharedRouter:
    """The router that all mixtures share, packed with the first of them.

    Raises
    ------
    CheckpointError
        Not all of it is finite, which its choices would hide.
    """
    if router := packing.shared.get("router"):
        return router
    checkpoint = packing.checkpoint
    names = ("project", "up", "down")
    matrices = {name: pack_matrix(checkpoint, f"router_{name}", "", packing.arena) for name in names}
    vectors = {
        name: vector(checkpoint.tensors[f"router_{name}"]) for name in ("decay", "up_bias", "down_bias")
    }
    values = [rows.unpack(np.arange(rows.rows, dtype=np.int32)) for rows in matrices.values()]
    if not all(np.isfinite(each).all() for each in (*values, *vectors.values())):
        raise CheckpointError(f"{checkpoint.path}: its router is not all numbers: convert it again")
    packing.shared["router"] = _native.SharedRouter(
        project=matrices["project"], up=matrices["up"], down=matrices["down"], **vectors
    )
    return packing.shared["router"]


def _expert_matrix(checkpoint: Checkpoint, name: str, weights: str, arena: _native.Arena) -> _native.Rows:
    tensor = checkpoint.tensors[name]
    if tensor.type != TERNARY:
        return pack_matrix(checkpoint, name, weights, arena, tiled=True)
    rows, cols = tensor.shape
    if cols % GROUP:
        raise CheckpointError(
            f"{checkpoint.path}: {tensor.name} has rows of {cols}, not a multiple of {GROUP}: "
            "convert it again"
        )
    if np.any(tensor.data & (tensor.data >> 1) & 0b01010101):
        raise CheckpointError(
            f"{checkpoint.path}: {tensor.name} has codes other than 0, 1 and 2: convert it again"
        )
    # The scale of a row goes to each of its groups, as native rows have them.
    blocks = np.empty((rows, cols // GROUP, 2 + GROUP // 4), np.uint8)
    scale = vector(checkpoint.tensors[f"{name}_scale"]).astype("<f2")
    blocks[..., :2] = scale.view(np.uint8).reshape(rows, 1, 2)
    blocks[..., 2:] = tensor.data.reshape(rows, -1, GROUP // 4)
    checkpoint.release(name)
    return _native.Rows.pack(blocks.reshape(-1), TERNARY, rows, cols, "", arena, True)
