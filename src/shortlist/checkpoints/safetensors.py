"""Opens Hugging Face folders: `config.json` beside one or several safetensors files.

The format is a length in eight bytes, that many bytes of JSON, then the tensors
(https://huggingface.co/docs/safetensors). The `safetensors` library is not used, because NumPy has no
bfloat16 and the bytes must stay in the mapped file.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from shortlist.checkpoints.base import TYPES, Checkpoint, StoredTensor, check_tensors, drop_unused
from shortlist.checkpoints.experts import split_experts
from shortlist.checkpoints.folders import json_object, weight_files
from shortlist.checkpoints.fused import split_fused
from shortlist.checkpoints.mapped import MappedFile
from shortlist.checkpoints.sampling import folder_sampling
from shortlist.errors import CheckpointError
from shortlist.spec.config import ModelConfig
from shortlist.spec.families.base import Family
from shortlist.spec.hf_config import hf_config, hf_family
from shortlist.spec.hf_keys import BASE, WRAPPER
from shortlist.spec.keys import check_keys
from shortlist.spec.settings import Settings
from shortlist.spec.tensor_names import canonical_hf_name, hf_name

_TYPES = tuple(name for name, kind in TYPES.items() if not kind.quantized)
_SIZES = {
    **{name: TYPES[name].bytes for name in _TYPES},
    "U8": 1,
}  # U8: codes of ternary experts
# The prefix of a multimodal model's text part, and the prefixes of parts that are not read.
_WRAPPED = "model.language_model."
_ENCODERS = ("model.vision_tower.", "model.audio_tower.", "model.embed_vision.", "model.embed_audio.")
# Computed from config.json; old files store it in every layer.
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
    settings = Settings(config_file.path, json_object(config_file.path, config_file.bytes))
    family = hf_family(settings)
    wrapped = settings.get("model_type") == family.hf_wrapper
    if wrapped:
        check_keys(settings, BASE | WRAPPER)
        settings = settings.part("text_config")
    config = hf_config(settings, family)
    tensors: dict[str, StoredTensor] = {}
    files: dict[str, MappedFile] = {}
    headers = [config_file.bytes]
    for path in weight_files(folder):
        file = MappedFile(path)
        header_end, stored = _read_file(file)
        headers.append(file.bytes[:header_end])
        for tensor in stored:
            if wrapped and tensor.name.startswith(_ENCODERS):
                continue
            name = _canonical_name(path, tensor, family)
            if name is None:
                continue
            if name in tensors:
                raise CheckpointError(
                    f"{path}: tensor {tensor.name} is there twice, in this file or in another of the folder"
                )
            tensors[name], files[name] = tensor, file
    config, notes = _tie(config, tensors, files)
    for name, whole in split_fused(folder, config, tensors).items():
        files[name] = files[whole]
    tensors, files = split_experts(folder, config, tensors, files)
    drop_unused(config, tensors)
    if "head" not in tensors and not config.tied_head and "embedding" in tensors:
        raise CheckpointError(
            f"{folder} has no language-model head ({hf_name('head', family)}), because it was saved from the "
            "base model: save it with its head (AutoModelForCausalLM)"
        )
    check_tensors(folder, config, tensors, lambda name: hf_name(name, family))
    sampling, more = folder_sampling(folder)
    return Checkpoint(folder, config, tensors, files, headers, folder, sampling, notes + more)


def _tie(
    config: ModelConfig, tensors: dict[str, StoredTensor], files: dict[str, MappedFile]
) -> tuple[ModelConfig, list[str]]:
    """Decide whether the head is tied to the embedding: as in transformers, not where the two differ."""
    head, embedding = tensors.get("head"), tensors.get("embedding")
    if not config.tied_head or head is None:
        return config, []
    if embedding is None:
        tensors["embedding"], files["embedding"] = tensors.pop("head"), files.pop("head")
        return config, []
    same = head.shape == embedding.shape and head.type == embedding.type
    if same and np.array_equal(head.data, embedding.data):
        files["head"].release(head.data)
        files["embedding"].release(embedding.data)
        del tensors["head"], files["head"]
        return config, []
    note = (
        f"config.json says that head and embedding are one (tie_word_embeddings), but {head.name} differs "
        f"from {embedding.name}: both are used"
    )
    return replace(config, tied_head=False), [note]


def _read_file(file: MappedFile) -> tuple[int, list[StoredTensor]]:
    """The end of the header of a safetensors file, and its tensors ordered by name."""
    if file.bytes.nbytes < 8:
        raise CheckpointError(f"{file.path} is too short for a safetensors file: fetch it again")
    length = int.from_bytes(file.buffer[:8], "little")
    if length > file.bytes.nbytes - 8:
        raise CheckpointError(f"{file.path} ends in the middle of its header: fetch it again")
    start = 8 + length
    header = json_object(file.path, file.bytes[8:start])
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
    name = tensor.name.replace(_WRAPPED, "model.", 1)
    # A base model (AutoModel) is saved without the prefix "model.".
    if found := canonical_hf_name(name, family) or canonical_hf_name(f"model.{name}", family):
        return found
    if "lora_" in name:
        raise CheckpointError(
            f"{path}: tensor {tensor.name!r:.200} is of an adapter, which is not supported: merge it into "
            "its model (merge_and_unload of peft)"
        )
    raise CheckpointError(
        f"{path}: tensor {tensor.name!r:.200} is not one of a {family.name} model that is supported"
    )
