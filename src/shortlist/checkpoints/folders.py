"""Finds the model in a folder: a GGUF file, or the weight files of a Hugging Face model."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from shortlist.checkpoints.gguf_parts import is_later_part
from shortlist.checkpoints.mapped import MappedFile
from shortlist.errors import CheckpointError
from shortlist.spec.settings import Settings

_CONFIG = "config.json"
_ADAPTER = "adapter_config.json"
_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_SHARD = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")
_MAX_JSON = 1 << 24  # the index of a model of a trillion parameters is a tenth of this


def gguf_in(folder: Path) -> Path | None:
    """The GGUF file of a folder; None where the folder is a Hugging Face model.

    Raises
    ------
    CheckpointError
        The folder holds an adapter, no model, or several GGUF files.
    """
    if (folder / _ADAPTER).exists():
        raise CheckpointError(
            f"{folder} holds an adapter ({_ADAPTER}), which is not supported: merge it into its model "
            "(merge_and_unload of peft) and save that"
        )
    has_config = (folder / _CONFIG).exists()
    if has_config and any(folder.glob("*.safetensors")):
        return None
    files = sorted(path for path in folder.glob("*.gguf") if not is_later_part(path))
    if len(files) == 1:
        return files[0]
    if files:
        names = ", ".join(path.name for path in files[:8])
        raise CheckpointError(f"{folder} holds {len(files)} GGUF files: name one of them ({names})")
    if has_config or any(folder.glob("*.safetensors")):
        return None
    raise CheckpointError(
        f"{folder} holds no model, neither {_CONFIG} with safetensors files nor a GGUF file: "
        "name a folder that does, or a GGUF file"
    )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a Hugging Face model.

    Raises
    ------
    CheckpointError
        There are none, or some are missing.
    """
    index_path = folder / _INDEX
    if index_path.exists():
        return _indexed(folder, index_path)
    if (folder / _SINGLE).exists():
        return [folder / _SINGLE]
    shards = {
        path.name: match for path in folder.glob("*.safetensors") if (match := _SHARD.fullmatch(path.name))
    }
    if shards:
        return _numbered(folder, shards)
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    if others:
        raise CheckpointError(
            f"{folder} has {others[0]:.80}, but neither {_SINGLE} nor {_INDEX}: rename the file that holds "
            f"the weights to {_SINGLE}"
        )
    raise CheckpointError(
        f"{folder} has neither {_SINGLE} nor {_INDEX}: save the model with `save_pretrained` of "
        "transformers (weights in .bin files are never read, because opening them can run code)"
    )


def _indexed(folder: Path, index_path: Path) -> list[Path]:
    index = MappedFile(index_path)
    weight_map = Settings(index_path, json_object(index_path, index.bytes)).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(map(_is_file_name, weight_map.values())):
        raise CheckpointError(f"{index_path}: weight_map must give file names of the folder for the tensors")
    names = sorted(set(weight_map.values()))
    if missing := [name for name in names if not (folder / name).exists()]:
        raise CheckpointError(
            f"{index_path} names {missing[0]}, which is not in the folder "
            f"({len(missing)} of {len(names)} files are missing): fetch the model again"
        )
    return [folder / name for name in names]


def _numbered(folder: Path, shards: dict[str, re.Match[str]]) -> list[Path]:
    """The numbered files of a folder without an index."""
    counts = {int(match[2]) for match in shards.values()}
    count = max(counts)
    names = [f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
    missing = [name for name in names if name not in shards]
    if missing or len(counts) > 1:
        raise CheckpointError(
            f"{folder} has no {_INDEX}, and of the {count} files that its names promise "
            f"{len(missing)} are missing or of another set"
            + (f", the first is {missing[0]}" if missing else "")
            + ": fetch the model again"
        )
    return [folder / name for name in names]


def _is_file_name(name: Any) -> bool:
    return isinstance(name, str) and bool(re.fullmatch(r"[\w.-]+\.safetensors", name))


def json_object(path: Path, content: np.ndarray) -> dict[str, Any]:
    """Parse a JSON file that holds an object.

    Raises
    ------
    CheckpointError
        The file holds no object, or is too large.
    """
    if content.nbytes > _MAX_JSON:
        raise CheckpointError(
            f"{path} has {content.nbytes} bytes of JSON, more than any model needs: fetch it again"
        )
    try:
        value = json.loads(content.tobytes())
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} does not hold a valid JSON object: fetch it again")
    return value
