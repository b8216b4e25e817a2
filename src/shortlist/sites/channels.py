"""Input channels as units: a token reads of each matrix only the columns whose inputs carry much.

A *place* such as `layers.3.qkv` is an input that one or more matrices share; its shortlist serves all of
them. Matrices of a place with a shortlist are stored by input channel, with the codes, scales and minima of
their source, so that a channel that is left out is bytes that are not read.
"""

from collections.abc import Mapping

import numpy as np

from shortlist import _native
from shortlist.checkpoints.base import Checkpoint
from shortlist.checkpoints.packing import pack_matrix
from shortlist.errors import UsageError
from shortlist.estimators import Magnitude
from shortlist.selectors import Threshold
from shortlist.sites.base import Part

PLACES = {"qkv": ("q", "k", "v"), "o": ("o",), "gate_up": ("gate", "up"), "down": ("down",)}
"""The inputs of a layer, and the matrices that share each."""


def channel_places(checkpoint: Checkpoint) -> list[str]:
    """Every place of a checkpoint whose input channels can be shortlisted, layer by layer."""
    config = checkpoint.config
    return [
        f"layers.{i}.{name}"
        for i in range(config.layers)
        for name in PLACES
        if not (config.is_mixture(i) and name in ("gate_up", "down"))
    ]


def matrices_of(checkpoint: Checkpoint, place: str) -> list[str]:
    """Names of the tensors that read the input of a place, those that the family has.

    Raises
    ------
    UsageError
        There is no such place.
    """
    layer, _, name = place.rpartition(".")
    tensors = [f"{layer}.{matrix}" for matrix in PLACES.get(name, ())]
    found = [tensor for tensor in tensors if tensor in checkpoint.tensors]
    if not found:
        raise UsageError(
            f"there is no place {place} in this model: name one such as layers.0.qkv, .o, .gate_up or .down"
        )
    return found


def place_table(checkpoint: Checkpoint, place: str, weights: str = "") -> np.ndarray:
    """Weights that an input meets, a row per channel: what `Magnitude.fit` takes as its table.

    Returns
    -------
    float32 [inputs, outputs]
        Outputs of all matrices of the place, in the decoder's order.
    """
    columns = []
    for name in matrices_of(checkpoint, place):
        rows = pack_matrix(checkpoint, name, weights, _native.Arena())
        columns.append(rows.unpack(np.arange(rows.rows, dtype=np.int32)).T)
    return np.concatenate(columns, axis=1)


def check_parts(checkpoint: Checkpoint, parts: Mapping[str, Part]) -> None:
    """Raise `UsageError` where a part is not one that the decoder's layers can run."""
    for place, part in parts.items():
        shapes = [checkpoint.tensors[name].shape for name in matrices_of(checkpoint, place)]
        units, width = shapes[0][1], sum(rows for rows, _ in shapes)
        if not (isinstance(part.estimator, Magnitude) and isinstance(part.selector, Threshold)):
            raise UsageError(
                f"{place} is shortlisted by {part.estimator.name} with {part.selector.name}, and "
                "layers decode only magnitude with threshold: choose these, or leave the place out"
            )
        if (part.units, part.width) != (units, width):
            raise UsageError(
                f"the part of {place} has {part.units} units of width {part.width} where the model has "
                f"{units} of {width}: fit it to this model"
            )


def pack_place(
    checkpoint: Checkpoint, place: str, part: Part, weights: str, arena: _native.Arena
) -> tuple[dict[str, _native.Channels | _native.Rows], _native.ChannelInput]:
    """The matrices of a place by channel, and the shortlist of their input.

    Returns
    -------
    matrices : dict
        By the names that the native decoder takes, with the outer factors of a low rank (`q_rest`, ...).
    input : _native.ChannelInput
    """
    matrices: dict[str, _native.Channels | _native.Rows] = {}
    outer, inner = part.state.get("outer"), part.state.get("inner")
    start = 0
    for tensor in matrices_of(checkpoint, place):
        name = tensor.rpartition(".")[2]
        rows = pack_matrix(checkpoint, tensor, weights, _native.Arena())
        matrices[name] = _native.Channels(rows, arena)
        if outer is not None:
            matrices[f"{name}_rest"] = _int8(outer[start : start + rows.rows], arena, tiled=True)
        start += rows.rows
    rest = None if inner is None else _native.Channels(_int8(inner, _native.Arena()), arena)
    norms = part.state.get("norms")
    assert isinstance(part.selector, Threshold)
    return matrices, _native.ChannelInput(part.selector.threshold, norms, rest)


def _int8(values: np.ndarray, arena: _native.Arena, *, tiled: bool = False) -> _native.Rows:
    data = np.ascontiguousarray(values, np.float32).view(np.uint8).reshape(-1)
    rows, cols = values.shape
    return _native.Rows.pack(data, "F32", rows, cols, "q8", arena, tiled)
