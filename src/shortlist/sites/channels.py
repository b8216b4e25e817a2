"""Input channels as units: a token reads of each matrix only the columns whose inputs carry much.

A site such as `layers.3.qkv` is an input that one or more matrices share; its shortlist serves all of them.
Matrices of a site with a shortlist are stored by input channel, with the codes, scales and minima of their
source, so that a channel that is left out is bytes that are not read.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from shortlist import _native
from shortlist.checkpoints.base import TYPES, Checkpoint
from shortlist.checkpoints.packing import pack_floats, unpacked
from shortlist.estimators.base import Array
from shortlist.selectors.threshold import Threshold
from shortlist.sites.base import MATRICES, Packing, Part, Site


class ChannelSite(Site):
    """The input of some matrices of a layer; its table is [inputs, outputs of all of them]."""

    natively: ClassVar[frozenset[tuple[str, str]]] = frozenset({("magnitude", "threshold")})

    def __init__(self, name: str, checkpoint: Checkpoint):
        super().__init__(name, checkpoint)
        self.tensors = _tensors(checkpoint, self.layer, self.kind)
        shapes = [checkpoint.tensors[name].shape for name in self.tensors]
        self.units, self.width = shapes[0][1], sum(rows for rows, _ in shapes)

    @classmethod
    def missing(cls, checkpoint: Checkpoint, layer: int | None, kind: str) -> str | None:
        found = _tensors(checkpoint, layer, kind)
        if not found:
            return f"layer {layer} has no {' or '.join(MATRICES[kind])}"
        other = [type for name in found if not _by_channel(type := checkpoint.tensors[name].type)]
        return f"matrices of type {other[0]} are not stored by input channel" if other else None

    def table(self, weights: str = "") -> np.ndarray:
        columns = [unpacked(self._matrix(name, weights)).T for name in self.tensors]
        return np.concatenate(columns, axis=1)

    def product(self, query: Array, indices: Array) -> Array:
        return query[indices] @ self.table()[indices, :]

    def install(
        self, part: Part, into: Packing
    ) -> tuple[dict[str, _native.Channels | _native.Rows], _native.ChannelInput]:
        """The matrices by channel, and the shortlist of their input.

        Returns
        -------
        matrices : dict
            By the names that the native decoder takes, with the outer factors of a low rank (`q_rest`, ...).
        input : _native.ChannelInput
        """
        matrices: dict[str, _native.Channels | _native.Rows] = {}
        outer, inner = part.state.get("outer"), part.state.get("inner")
        start = 0
        for tensor in self.tensors:
            name = tensor.rpartition(".")[2]
            rows = self._matrix(tensor, into.weights)
            matrices[name] = _native.Channels(rows, into.arena)
            if outer is not None:
                factor = outer[start : start + rows.rows]
                matrices[f"{name}_rest"] = pack_floats(factor, "q8", into.arena, tiled=True)
            start += rows.rows
        rest = None if inner is None else _native.Channels(pack_floats(inner, "q8"), into.arena)
        assert isinstance(part.selector, Threshold)
        return matrices, _native.ChannelInput(part.selector.threshold, part.state.get("norms"), rest)


def _by_channel(name: str) -> bool:
    """Whether matrices of a type can lie by channel, as the constructor of native `Channels` says."""
    kind = TYPES[name]
    return not kind.quantized or (kind.scale == "f16" and kind.bits >= 4 and not kind.looked_up)


def _tensors(checkpoint: Checkpoint, layer: int | None, kind: str) -> list[str]:
    names = (f"layers.{layer}.{matrix}" for matrix in MATRICES[kind])
    return [name for name in names if name in checkpoint.tensors]
