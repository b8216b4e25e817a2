"""The feed-forward block of one layer that is no mixture, packed for the native decoder."""

from shortlist import _native
from shortlist.model.blocks.base import Packing
from shortlist.spec.families.base import FFN_BIASES


def pack_ffn(packing: Packing, layer: int) -> _native.Ffn | _native.NeuronFfn:
    """All neurons of a layer or, where they are a site, those that its part leaves."""
    config = packing.config
    activation, cutoff = config.activation, config.ffn_cutoff_of(layer)
    if found := packing.sites.get(f"layers.{layer}.neurons"):
        site, part = found
        packed = site.install(part, packing)
        return _native.NeuronFfn(
            packed.scores, packed.neurons, margin=packed.margin, activation=activation, cutoff=cutoff
        )
    matrices, inputs = packing.matrices(layer, ("gate_up", "down"))
    vectors = packing.vectors(layer, FFN_BIASES)
    return _native.Ffn(matrices, vectors, activation=activation, cutoff=cutoff, inputs=inputs)
