"""The experts of a checkpoint: a tensor for each of them.

Files store the experts of a layer in one tensor or in many. Here a tensor of all experts is split into views,
so that the code that packs a matrix packs an expert.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from shortlist.checkpoints.base import StoredTensor
from shortlist.checkpoints.mapped import MappedFile
from shortlist.errors import CheckpointError
from shortlist.spec.config import ModelConfig

TERNARY = "TERNARY"
"""Type of a tensor of codes 0, 1 and 2 for -1, 0 and 1, four to a byte, the first in the lowest bits."""


def split_experts(
    path: Path, config: ModelConfig, tensors: dict[str, StoredTensor], files: dict[str, MappedFile]
) -> tuple[dict[str, StoredTensor], dict[str, MappedFile]]:
    """Replace a tensor of all experts of a layer by a tensor for each expert.

    Parameters
    ----------
    path
        For messages.
    config
    tensors
        Tensors by the decoder's names.
    files
        The mapped file of each tensor.

    Returns
    -------
    tensors, files
        The same with split experts; other tensors are unchanged.

    Raises
    ------
    CheckpointError
        A tensor does not hold the number of experts in the header, or its type cannot be split.
    """
    ternary = config.mixture is not None and config.mixture.ternary
    for name, tensor in tensors.items():
        if (tensor.type == "U8") != (ternary and name.endswith((".experts.gate_up", ".experts.down"))):
            raise CheckpointError(
                f"{path}: tensor {tensor.name} has type {tensor.type}, which is not supported there; only "
                "ternary experts are bytes"
            )
    if config.mixture is None:
        return tensors, files
    split: dict[str, StoredTensor] = {}
    their_files: dict[str, MappedFile] = {}
    for name, tensor in tensors.items():
        parts = dict(_parts(path, name, tensor, config.mixture.experts))
        split |= parts
        their_files |= dict.fromkeys(parts, files[name])
    return split, their_files


def _parts(path: Path, name: str, tensor: StoredTensor, experts: int) -> Iterator[tuple[str, StoredTensor]]:
    layer, found, kind = name.rpartition(".experts.")
    if found and "." not in kind:
        dimensions = 2 if kind.endswith("_scale") else 3
        for expert, one in enumerate(_each(path, tensor, experts, dimensions)):
            halves = _halves(path, kind, one) if kind.startswith("gate_up") else [(kind, one)]
            yield from ((f"{layer}.experts.{expert}.{half}", _unpacked(part)) for half, part in halves)
    elif name.endswith(".shared_gate") and len(tensor.shape) == 1:
        yield name, replace(tensor, shape=(1, *tensor.shape))
    else:
        yield name, tensor


def _unpacked(tensor: StoredTensor) -> StoredTensor:
    """A tensor of packed bytes, four weights each, described as weights."""
    if tensor.type != "U8":
        return tensor
    return replace(tensor, type=TERNARY, shape=(*tensor.shape[:-1], 4 * tensor.shape[-1]))


def _each(path: Path, tensor: StoredTensor, experts: int, dimensions: int) -> Iterator[StoredTensor]:
    if len(tensor.shape) != dimensions or tensor.shape[0] != experts:
        raise CheckpointError(
            f"{path}: tensor {tensor.name} has shape {tensor.shape}, but the header says {experts} experts: "
            "the file is damaged or of an unsupported variant"
        )
    for i, data in enumerate(tensor.data.reshape(experts, -1)):
        yield StoredTensor(f"{tensor.name}[{i}]", tensor.type, tensor.shape[1:], data)


def _halves(path: Path, kind: str, tensor: StoredTensor) -> Iterator[tuple[str, StoredTensor]]:
    """Split an expert's rows, or their scales, into gate and up."""
    rows, *rest = tensor.shape
    if rows % 2:
        raise CheckpointError(
            f"{path}: tensor {tensor.name} has {rows} rows, which are not two matrices of one size: "
            "fetch the file again"
        )
    for half, data in zip(("gate", "up"), tensor.data.reshape(2, -1), strict=True):
        name = half + kind.removeprefix("gate_up")
        yield name, StoredTensor(f"{tensor.name} {half}", tensor.type, (rows // 2, *rest), data)
