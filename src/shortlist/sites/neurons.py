"""FFN neurons as units: what a layer needs to read only the neurons that fire.

An activation with exact zeros (ReLU, squared ReLU) leaves most neurons of a model that was trained for it
at zero, and so does one that sets gates below a cutoff to zero (the sparse layers of gemma3n). A neuron at
zero adds nothing: its up row and its down column need not be read. Which neurons
fire is known from the gates themselves (`exact`), or, at half their bytes, from 4-bit copies of them with
the spread of what these leave out (`estimated`).

The down projection is stored transposed, a row per neuron. Float weights are quantized along that row.
Weights that are quantized already have their scales along the other axis, so they are rounded once more, to
8 bits with a scale per 32 outputs, which moves them by 0.6 % (docs/ffn-shortlist.md).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from shortlist import _native
from shortlist.checkpoints.base import Checkpoint, StoredTensor
from shortlist.spec.config import ACTIVATIONS_WITH_ZEROS, ModelConfig
from shortlist.spec.families import FFN_BIASES

SIGMA = 4.0
"""Standard deviations of the estimate's error that a gate may lie above its estimate and still be found.

One that lies beyond is missed at a value that is small beside the others."""

_FLOATS = {"F32": np.uint32, "F16": np.uint16, "BF16": np.uint16}


def neuron_ways(config: ModelConfig) -> tuple[Literal["exact", "estimated"], ...]:
    """The ways in which layers of a model can leave out neurons.

    A cutoff is that of all gates: where zeros come from one, gates cannot be estimated. Layers with biases
    are computed whole.
    """
    if _has_ffn_biases(config):
        return ()
    if config.activation in ACTIVATIONS_WITH_ZEROS:
        return ("exact", "estimated")
    return ("exact",) if any(cutoff is not None for cutoff in config.ffn_cutoffs) else ()


def has_zeros(config: ModelConfig, layer: int) -> bool:
    """Whether most neurons of a layer can be at exactly zero."""
    if _has_ffn_biases(config):
        return False
    return config.activation in ACTIVATIONS_WITH_ZEROS or config.ffn_cutoff_of(layer) is not None


def _has_ffn_biases(config: ModelConfig) -> bool:
    return any(name in FFN_BIASES for name in config.biases)


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


def pack_ffn(
    checkpoint: Checkpoint, layer: int, weights: str, arena: _native.Arena, *, estimated: bool
) -> ShortlistedFfn:
    """Pack gate, up and down of one layer as neurons.

    Parameters
    ----------
    weights
        "q8" or "q4" quantizes float matrices; "" keeps them.
    arena
        Where the packed rows go.
    estimated
        Find the neurons by 4-bit copies of the gates instead of the gates.
    """
    tensors = {name: checkpoint.tensors.get(f"layers.{layer}.{name}") for name in ("gate", "up", "down")}
    deciding = "gate" if tensors["gate"] is not None else "up"
    down = _transposed(_tensor(tensors["down"]), weights)
    first = _tensor(tensors[deciding])
    up = _rows(_tensor(tensors["up"]), weights) if deciding == "gate" else None
    if not estimated:
        packed = ShortlistedFfn(_rows(first, weights, arena), None, _native.Neurons(None, up, down, arena))
    else:
        exact = _rows(first, weights)
        scores, margin = _estimate(exact, arena)
        gate, up = (exact, up) if deciding == "gate" else (None, exact)
        packed = ShortlistedFfn(scores, margin, _native.Neurons(gate, up, down, arena))
    for name, tensor in tensors.items():
        if tensor is not None:
            checkpoint.release(f"layers.{layer}.{name}")
    return packed


def _tensor(tensor: StoredTensor | None) -> StoredTensor:
    assert tensor is not None, "a checkpoint is checked for its tensors when it is opened"
    return tensor


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
    values = _floats(_native.Rows.pack(tensor.data, tensor.type, rows, cols))
    return _quantized(np.ascontiguousarray(values.T), "q8")


def _estimate(gates: _native.Rows, arena: _native.Arena) -> tuple[_native.Rows, np.ndarray]:
    """4-bit copies of the gates, and the margin that their errors need.

    An error e of a row moves a gate by e . x, whose deviation is |e| |x| / sqrt(width) for an x that knows
    nothing of e.
    """
    exact = _floats(gates)
    scores = _quantized(exact, "q4", arena)
    errors = np.linalg.norm(exact - _floats(scores), axis=1)
    return scores, (SIGMA * gates.cols**-0.5 * errors).astype(np.float32)


def _quantized(values: np.ndarray, target: str, arena: _native.Arena | None = None) -> _native.Rows:
    data = np.ascontiguousarray(values, np.float32).view(np.uint8).reshape(-1)
    rows, cols = values.shape
    return _native.Rows.pack(data, "F32", rows, cols, target, arena, arena is not None)


def _floats(rows: _native.Rows) -> np.ndarray:
    return rows.unpack(np.arange(rows.rows, dtype=np.int32))
