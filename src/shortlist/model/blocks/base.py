"""What every block's module needs while a decoder is packed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shortlist import _native
from shortlist.checkpoints.base import Checkpoint
from shortlist.checkpoints.packing import pack_matrix, vector
from shortlist.sites.base import MATRICES, Part, Site
from shortlist.sites.base import Packing as SitePacking
from shortlist.spec.config import ModelConfig


@dataclass
class Packing(SitePacking):
    """A checkpoint that is being packed, layer by layer, into native blocks.

    Parameters
    ----------
    weights, arena
        As sites take them.
    checkpoint
        Its mapped pages are given back as they are packed.
    sites
        By name (`layers.3.qkv`), the sites where units are shortlisted, and what is done there.
    inputs
        By site, the native shortlists of input channels that were packed.
    attentions
        By layer, its native attention, whose keys and values later ones may share.
    shared
        What blocks of several layers share, by a key that names it: angles of RoPE, a router.
    """

    checkpoint: Checkpoint
    sites: Mapping[str, tuple[Site, Part]]
    inputs: dict[str, _native.ChannelInput] = field(default_factory=dict)
    attentions: dict[int, _native.Attention] = field(default_factory=dict)
    shared: dict[Any, Any] = field(default_factory=dict)

    @property
    def config(self) -> ModelConfig:
        """The model's configuration."""
        return self.checkpoint.config

    @property
    def table_format(self) -> str:
        """How tables are quantized of which a token reads one row: never to 4 bits."""
        return "q8" if self.weights else ""

    def matrix(self, name: str) -> _native.Rows:
        """A matrix that is read whole, tiled."""
        return pack_matrix(self.checkpoint, name, self.weights, self.arena, tiled=True)

    def table(self, name: str) -> _native.Rows:
        """A matrix that is read row by row."""
        return pack_matrix(self.checkpoint, name, self.table_format, self.arena)

    def vectors(self, layer: int, names: Iterable[str]) -> dict[str, np.ndarray]:
        """The vectors of a layer that are there, float32 [n], by their names in the layer."""
        tensors = self.checkpoint.tensors
        found = {name: tensors.get(f"layers.{layer}.{name}") for name in names}
        return {name: vector(tensor) for name, tensor in found.items() if tensor is not None}

    def needed_norm(self, name: str) -> np.ndarray:
        """The weights of a norm that every model of this kind has, as `norm` gives them."""
        found = self.norm(name)
        assert found is not None, "a checkpoint is checked for its tensors when it is opened"
        return found

    def norm(self, name: str) -> np.ndarray | None:
        """The weights of a norm, float32 [n], with what the family adds to them; None where there is none."""
        tensor = self.checkpoint.tensors.get(name)
        return None if tensor is None else vector(tensor) + np.float32(self.config.norm_offset)

    def matrices(
        self, layer: int, kinds: Iterable[str]
    ) -> tuple[dict[str, _native.Rows | _native.Channels], dict[str, _native.ChannelInput]]:
        """The matrices of a layer that read inputs of these kinds, and the shortlists of the inputs.

        Matrices of a site lie by input channel, the others in tiles.
        """
        matrices: dict[str, _native.Rows | _native.Channels] = {}
        inputs: dict[str, _native.ChannelInput] = {}
        for kind in kinds:
            name = f"layers.{layer}.{kind}"
            if found := self.sites.get(name):
                site, part = found
                by_name, inputs[kind] = site.install(part, self)
                matrices |= by_name
                self.inputs[name] = inputs[kind]
                continue
            for matrix in MATRICES[kind]:
                if f"layers.{layer}.{matrix}" in self.checkpoint.tensors:
                    matrices[matrix] = self.matrix(f"layers.{layer}.{matrix}")
        return matrices, inputs
