"""Opens Hugging Face folders: `config.json` beside one or several safetensors files.

The format is eight bytes of length, that many bytes of JSON, then the tensors
(https://huggingface.co/docs/safetensors). It is read here and not by the `safetensors` library, because NumPy
has no bfloat16 and the bytes are wanted as they are, in the map.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from shortlist.checkpoints.base import Checkpoint, MappedFile, StoredTensor, check_tensors, drop_unused
from shortlist.checkpoints.experts import split_experts
from shortlist.checkpoints.hf_config import hf_config, hf_family
from shortlist.checkpoints.sampling import folder_sampling
from shortlist.checkpoints.settings import Settings
from shortlist.errors import CheckpointError
from shortlist.models.families import Family, canonical_hf_name

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_TYPES = ("F32", "F16", "BF16")
_SIZES = {"F32": 4, "F16": 2, "BF16": 2, "U8": 1}  # bytes hold the codes of ternary experts, and nothing else
_MAX_JSON = 1 << 24  # the index of a model of a trillion parameters is a tenth of this
# Where a model that also sees and hears keeps its text part, and what is not read of it.
_WRAPPED = "model.language_model."
_ENCODERS = ("model.vision_tower.", "model.audio_tower.", "model.embed_vision.", "model.embed_audio.")
# Computed again from config.json; old files store it in every layer.
_REDUNDANT = ".rotary_emb.inv_freq"


def open_folder(folder: Path) -> Checkpoint:
    """Open a Hugging Face folder with safetensors weights.

    Raises
    ------
    CheckpointError
        A file is missing or damaged, files contradict each other, or the model or a tensor type is not
        supported.
    """
    config_file = MappedFile(folder / "config.json")
    settings = Settings(config_file.path, _json_object(config_file.path, config_file.bytes))
    family = hf_family(settings)
    wrapped = settings.get("model_type") == family.hf_wrapper
    config = hf_config(settings.part("text_config") if wrapped else settings, family)
    tensors: dict[str, StoredTensor] = {}
    files: dict[str, MappedFile] = {}
    headers = [config_file.bytes]
    for path in _weight_files(folder):
        file = MappedFile(path)
        header_end, stored = _read_file(file)
        headers.append(file.bytes[:header_end])
        for tensor in stored:
            if wrapped and tensor.name.startswith(_ENCODERS):
                continue
            name = _canonical_name(path, tensor, family)
            if name is None or (name == "head" and config.tied_head):
                continue
            if name in tensors:
                raise CheckpointError(f"{path}: tensor {tensor.name} is in another file of the folder too")
            tensors[name], files[name] = tensor, file
    tensors, files = split_experts(folder, config, tensors, files)
    drop_unused(config, tensors)
    check_tensors(folder, config, tensors)
    sampling, notes = folder_sampling(folder)
    return Checkpoint(folder, config, tensors, files, headers, folder, sampling, notes)


def _weight_files(folder: Path) -> list[Path]:
    index_path = folder / _INDEX
    if not index_path.exists():
        if (folder / _SINGLE).exists():
            return [folder / _SINGLE]
        raise CheckpointError(
            f"{folder} has neither {_SINGLE} nor {_INDEX}: save the model with `save_pretrained` of "
            "transformers (weights in .bin files are never read, because opening them can run code)"
        )
    index = MappedFile(index_path)
    weight_map = Settings(index_path, _json_object(index_path, index.bytes)).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(map(_is_file_name, weight_map.values())):
        raise CheckpointError(f"{index_path}: weight_map must give file names of the folder for the tensors")
    names = sorted(set(weight_map.values()))
    if missing := [name for name in names if not (folder / name).exists()]:
        raise CheckpointError(
            f"{index_path} names {missing[0]}, which is not in the folder "
            f"({len(missing)} of {len(names)} files are missing): fetch the model again"
        )
    return [folder / name for name in names]


def _is_file_name(name: Any) -> bool:
    return isinstance(name, str) and bool(re.fullmatch(r"[\w.-]+\.safetensors", name))


def _read_file(file: MappedFile) -> tuple[int, list[StoredTensor]]:
    """The end of the header of one safetensors file, and its tensors in the order of their names."""
    if file.bytes.nbytes < 8:
        raise CheckpointError(f"{file.path} is too short for a safetensors file: fetch it again")
    length = int.from_bytes(file.buffer[:8], "little")
    if length > file.bytes.nbytes - 8:
        raise CheckpointError(f"{file.path} ends in the middle of its header: fetch it again")
    start = 8 + length
    header = _json_object(file.path, file.bytes[8:start])
    data = file.bytes[start:]
    return start, [
        _tensor(file.path, name, entry, data)
        for name, entry in sorted(header.items())
        if name != "__metadata__"
    ]


def _tensor(path: Path, name: str, entry: Any, data: np.ndarray) -> StoredTensor:
    label = f"{path}: tensor {name!r:.200}"
    match entry:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [int(start), int(end)]}:
            pass
        case _:
            raise CheckpointError(f"{label} is not described as safetensors prescribes: fetch the file again")
    if kind not in _SIZES:
        raise CheckpointError(
            f"{label} has type {kind!r:.20}, which is not supported; supported are {', '.join(_TYPES)}"
        )
    if not 1 <= len(shape) <= 4 or any(type(size) is not int or not 0 < size < 1 << 48 for size in shape):
        raise CheckpointError(
            f"{label} has the shape {shape!s:.80}, which no weight has: fetch the file again"
        )
    nbytes = _SIZES[kind]
    for size in shape:
        nbytes *= size
    if not 0 <= start <= end <= data.nbytes or end - start != nbytes:
        raise CheckpointError(
            f"{label} needs {nbytes} bytes, but is given bytes {start} to {end} of {data.nbytes}: "
            "fetch the file again"
        )
    return StoredTensor(name, kind, tuple(shape), data[start:end])


def _canonical_name(path: Path, tensor: StoredTensor, family: Family) -> str | None:
    if tensor.name.endswith(_REDUNDANT):
        return None
    if name := canonical_hf_name(tensor.name.replace(_WRAPPED, "model.", 1), family):
        return name
    raise CheckpointError(
        f"{path}: tensor {tensor.name!r:.200} does not belong to a {family.name} model that is supported "
        "(adapters are not)"
    )


def _json_object(path: Path, content: np.ndarray) -> dict[str, Any]:
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
