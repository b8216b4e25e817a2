"""Splits matrices that a file holds as one, rows behind rows, into views of each."""

from dataclasses import replace
from pathlib import Path

from shortlist.checkpoints.base import StoredTensor
from shortlist.errors import CheckpointError
from shortlist.spec.config import ModelConfig
from shortlist.spec.families import FAMILIES


def split_fused(path: Path, config: ModelConfig, tensors: dict[str, StoredTensor]) -> dict[str, str]:
    """Replace each matrix that the family names as fused by views of its parts.

    Returns
    -------
    dict of str to str
        By the name of a part, the name of the matrix that it was in.

    Raises
    ------
    CheckpointError
        A matrix has not as many rows as its parts together.
    """
    wholes: dict[str, str] = {}
    for layer in range(config.layers):
        rows = {"q": config.heads * config.head_dim}
        rows |= dict.fromkeys(("k", "v"), config.kv_heads * config.head_dim)
        rows |= dict.fromkeys(("gate", "up"), config.ffn_width_of(layer))
        for whole, parts in FAMILIES[config.family].fused.items():
            name = f"layers.{layer}.{whole}"
            if (tensor := tensors.pop(name, None)) is None:
                continue
            expected = (sum(rows[part] for part in parts), config.width)
            if tensor.shape != expected:
                raise CheckpointError(
                    f"{path}: tensor {tensor.name} has shape {tensor.shape}, but the header says {expected}: "
                    "the file is damaged or of an unsupported variant"
                )
            if twice := next((part for part in parts if f"layers.{layer}.{part}" in tensors), None):
                raise CheckpointError(
                    f"{path}: tensor {tensor.name} holds what {tensors[f'layers.{layer}.{twice}'].name} "
                    "holds too: fetch it again, or convert it again"
                )
            row_bytes, start = tensor.data.nbytes // expected[0], 0
            for part in parts:
                end = start + rows[part] * row_bytes
                shape = (rows[part], config.width)
                tensors[f"layers.{layer}.{part}"] = replace(tensor, shape=shape, data=tensor.data[start:end])
                wholes[f"layers.{layer}.{part}"] = name
                start = end
    return wholes
