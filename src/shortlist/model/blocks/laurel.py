"""The low-rank map beside attention of one layer (LAuReL), packed for the native decoder."""

from shortlist import _native
from shortlist.model.blocks.base import Packing


def pack_laurel(packing: Packing, layer: int) -> _native.Laurel:
    """Both factors of the map; the branch that it is in adds its norm and its input."""
    return _native.Laurel(
        packing.matrix(f"layers.{layer}.laurel_left"), packing.matrix(f"layers.{layer}.laurel_right")
    )
