"""FFN neurons as units: what a layer needs to read only the neurons that fire.

An activation with exact zeros (ReLU, squared ReLU) leaves most neurons of a model that was trained for it
at zero, and so does one that sets gates below a cutoff to zero (the sparse layers of gemma3n). A neuron at
zero adds nothing: its up row and its down column need not be read. Which neurons fire is known from the gates
themselves (`exact` with `threshold`, or with `statistical_top_k` where the file has a cutoff), or, at half
their bytes, from 4-bit copies of them (`int4_copy` with `threshold`).

The down projection is stored transposed, a row per neuron. Float weights are quantized along that row.
Weights that are quantized already have their scales along the other axis, so they are rounded once more, to
8 bits with a scale per 32 outputs, which moves them by 0.6 % (docs/ffn-shortlist.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from shortlist import _native
from shortlist.checkpoints.base import TYPES, Checkpoint, StoredTensor
from shortlist.checkpoints.packing import pack_floats, unpacked
from shortlist.errors import UsageError
from shortlist.estimators.base import Estimator
from shortlist.selectors.base import Selector
from shortlist.sites.base import Packing, Part, Reach, Site, Way, sites_of
from shortlist.spec.config import ACTIVATIONS_WITH_ZEROS, ModelConfig
from shortlist.spec.families.base import FFN_BIASES

Ffn = Literal["auto", "dense", "exact", "estimated"]

FIRES = float(np.finfo(np.float32).smallest_subnormal)
"""The least gate of a neuron that fires."""
SIGMA = 4.0
"""Standard deviations of the estimate's error that a gate may lie above its estimate and still be found.

A gate that lies farther above is missed at a value that is small beside the others."""

_FLOATS = {"F32": np.uint32, "F16": np.uint16, "BF16": np.uint16}


@dataclass(frozen=True)
class ShortlistedFfn:
    """One layer's FFN in the form that the native decoder takes.

    Parameters
    ----------
    scores
        Read whole for every token: the gates, the ups of an FFN without gates, or 4-bit copies of them.
    margin : float32 [neurons] or None
        For copies: what times the norm of the input a gate may lie above its estimate.
    neurons
        The rows that are read for neurons on the shortlist.
    """

    scores: _native.Rows
    margin: np.ndarray | None
    neurons: _native.Neurons


class NeuronSite(Site):
    """The neurons of a layer; its table holds their gates, or their ups where there is no gate."""

    natively: ClassVar[frozenset[tuple[str, str]]] = frozenset(
        {("exact", "threshold"), ("exact", "statistical_top_k"), ("int4_copy", "threshold")}
    )

    def __init__(self, name: str, checkpoint: Checkpoint):
        super().__init__(name, checkpoint)
        names = (f"layers.{self.layer}.{matrix}" for matrix in ("gate", "up", "down"))
        self.tensors = [tensor for tensor in names if tensor in checkpoint.tensors]
        self.units, self.width = checkpoint.tensors[self.tensors[0]].shape

    @classmethod
    def missing(cls, checkpoint: Checkpoint, layer: int | None, kind: str) -> str | None:
        config = checkpoint.config
        if layer is None or layer >= config.layers:
            return f"it has {config.layers} layers"
        if config.is_mixture(layer):
            return "the layer has experts"
        if any(name in FFN_BIASES for name in config.biases):
            return "its FFNs have biases, which neurons at zero add to"
        if config.activation not in ACTIVATIONS_WITH_ZEROS and config.ffn_cutoff_of(layer) is None:
            return f"exact zeros come from the activation, and {config.activation} has none"
        return None

    @classmethod
    def reach(cls, estimator: Estimator, selector: Selector) -> Reach:
        found = super().reach(estimator, selector)
        if found.reason is None and getattr(selector, "threshold", FIRES) != FIRES:
            return Reach("refused", f"a neuron fires above 0: choose a threshold of {FIRES}")
        return found

    def check(self, part: Part) -> None:
        super().check(part)
        cutoff = self.checkpoint.config.ffn_cutoff_of(self.layer or 0)
        if cutoff is None and part.selector.name == "statistical_top_k":
            raise UsageError(f"{self.name}: its gates have no cutoff: choose threshold")
        own = self.exact()
        if cutoff is not None and (part.estimator, part.selector) != (own.estimator, own.selector):
            raise UsageError(
                f"{self.name}: its cutoff is that of all gates: choose {own.estimator} with {own.selector}"
            )

    def exact(self) -> Part:
        """The part that leaves out nothing but zeros."""
        from shortlist.estimators import Exact
        from shortlist.selectors import StatisticalTopK, Threshold

        cutoff = self.checkpoint.config.ffn_cutoff_of(self.layer or 0)
        keeps = Threshold(FIRES) if cutoff is None else StatisticalTopK(1 - NormalDist().cdf(cutoff))
        return self.part(Exact(), keeps)

    def estimated(self) -> Part | None:
        """The part that finds neurons by 4-bit copies; None where zeros come from a cutoff."""
        from shortlist.estimators import Int4Copy
        from shortlist.selectors import Threshold

        if self.checkpoint.config.ffn_cutoff_of(self.layer or 0) is not None:
            return None
        return self.part(Int4Copy(), Threshold(FIRES, sigma=SIGMA))

    def table(self, weights: str = "") -> _native.Rows:
        return self._matrix(self.tensors[0], weights)

    def install(self, part: Part, into: Packing) -> ShortlistedFfn:
        """Pack gate, up and down of the layer as neurons."""
        deciding, *ups, down = (self.checkpoint.tensors[name] for name in self.tensors)
        rows = _transposed(down, into.weights)
        up = _rows(ups[0], into.weights) if ups else None
        if part.estimator.name == "exact":
            neurons = _native.Neurons(None, up, rows, into.arena)
            packed = ShortlistedFfn(_rows(deciding, into.weights, into.arena), None, neurons)
        else:
            from shortlist.estimators.int4_copy import residual

            exact = _rows(deciding, into.weights)
            values = unpacked(exact)
            scores = pack_floats(values, "q4", into.arena, tiled=True)
            selector: Any = part.selector
            margin = selector.sigma * residual(values, unpacked(scores))
            gate, up = (exact, up) if ups else (None, exact)
            packed = ShortlistedFfn(scores, margin, _native.Neurons(gate, up, rows, into.arena))
        for name in self.tensors:
            self.checkpoint.release(name)
        return packed


def neuron_parts(checkpoint: Checkpoint, ffn: str, parts: Mapping[str, Part | None]) -> dict[str, Part]:
    """Parts of all neurons of a model: what `--ffn` is short for.

    Parameters
    ----------
    ffn : {"auto", "dense", "exact", "estimated"}
        `auto` takes what `parts` says of neurons; where it says nothing, exact where there are zeros and the
        weights are floats (the down projection of quantized ones would be rounded again), else dense.
    parts : mapping of str to Part or None
        By site, as a recipe says.

    Raises
    ------
    UsageError
        `ffn` is unknown, or the model or the other parts exclude it.
    """
    if ffn not in get_args(Ffn):
        raise UsageError(f"ffn {ffn} is unknown: choose one of {', '.join(get_args(Ffn))}")
    named = {name: part for name, part in parts.items() if name.endswith(".neurons")}
    if ffn == "auto" and named:
        return {name: part for name, part in named.items() if part is not None}
    sites: list[Any] = sites_of(checkpoint, "neurons")
    by_channel = any(part and name.endswith((".gate_up", ".down")) for name, part in parts.items())
    if ffn == "auto":
        floats = sites and not TYPES[checkpoint.tensors[sites[0].tensors[-1]].type].quantized
        ffn = "exact" if floats and not by_channel and not checkpoint.config.mixture else "dense"
    if ffn == "dense":
        return {}
    if by_channel:
        raise UsageError(
            f"ffn {ffn} and a recipe for the channels of gate_up or down exclude each other: choose dense"
        )
    _check_way(checkpoint.config, ffn, bool(sites))
    return {site.name: site.exact() if ffn == "exact" else site.estimated() for site in sites}


def neuron_ways(checkpoint: Checkpoint) -> tuple[Way, ...]:
    """The ways in which a model's layers can leave out neurons; none where no activation has exact zeros."""
    sites: list[Any] = sites_of(checkpoint, "neurons")
    if not sites:
        return ()
    return ("exact", "estimated") if all(site.estimated() for site in sites) else ("exact",)


def _check_way(config: ModelConfig, ffn: str, has_sites: bool) -> None:
    if config.mixture:
        raise UsageError(f"ffn {ffn} is for dense layers, and this model has experts: choose dense")
    if not has_sites:
        raise UsageError(
            f"ffn {ffn} needs an activation with exact zeros, and {config.activation} has none: choose dense"
        )
    if ffn == "estimated" and any(cutoff is not None for cutoff in config.ffn_cutoffs):
        raise UsageError(
            "ffn estimated cannot tell the zeros of this model, whose cutoff is that of all gates: "
            "choose exact"
        )


def _rows(tensor: StoredTensor, weights: str, arena: _native.Arena | None = None) -> _native.Rows:
    """A row per neuron; with an arena they stay there, tiled, to be read whole."""
    rows, cols = tensor.shape
    return _native.Rows.pack(tensor.data, tensor.type, rows, cols, weights, arena, arena is not None)


def _transposed(tensor: StoredTensor, weights: str) -> _native.Rows:
    """Rows [cols, rows] of a matrix [rows, cols]; 8 bits where the matrix is quantized."""
    rows, cols = tensor.shape
    if kind := _FLOATS.get(tensor.type):
        columns = np.ascontiguousarray(tensor.data.view(kind).reshape(rows, cols).T)
        return _native.Rows.pack(columns.view(np.uint8).reshape(-1), tensor.type, cols, rows, weights)
    return pack_floats(unpacked(_native.Rows.pack(tensor.data, tensor.type, rows, cols)).T, "q8")
