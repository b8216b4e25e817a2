"""Saves and loads converted models: one safetensors file beside config.json and the tokenizer."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.utils import parametrize

from shortlist.errors import CheckpointError, ShortlistError, UsageError
from shortlist.torch import ternary
from shortlist.torch.blocks import find_blocks
from shortlist.torch.converted import MoEConfig, install

WEIGHTS = "model.safetensors"
PACKED = ("gate_up_proj", "down_proj")


def save_converted(model: Any, config: MoEConfig, tokenizer: Any, folder: Path) -> None:
    """Write a folder that `load_converted` and the native runtime read.

    Matrices are stored in bfloat16. `model` itself is rounded to bfloat16, so that it computes the same as
    the saved one. The folder appears once it is complete.

    Parameters
    ----------
    model
        A `transformers` model with the mixtures of `config`; ternary experts are packed.
    tokenizer
        The `transformers` tokenizer of the model.

    Raises
    ------
    UsageError
        The folder exists.
    ShortlistError
        The folder cannot be written.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists: name a folder that does not")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".converting-") as work:
            place = Path(work) / "converted"
            write_model(model, config, place)
            tokenizer.save_pretrained(place)
            place.rename(folder)
    except (OSError, safetensors.SafetensorError) as error:
        raise ShortlistError(f"{folder} cannot be written ({error}): name a folder with space") from None


def write_model(model: Any, config: MoEConfig, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write config.json and the weights into a new folder; rounds the model's own weights to `dtype`."""
    settings = model.config.to_diff_dict() | {
        "model_type": model.config.model_type,
        "architectures": [type(model).__name__],
        "dtype": str(dtype).removeprefix("torch."),
        "shortlist": config.to_json(),
    }
    settings.pop("quantization_config", None)  # a model read from a GGUF file still has it
    folder.mkdir()
    save_file(stored_tensors(model, config, dtype), folder / WEIGHTS, metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n")


def check_space(model: Any, folder: Path) -> None:
    """Raise `ShortlistError` where the disk has too little space for the files of `save_converted`."""
    needed = sum(
        weight.numel() / 4 if ".parametrizations." in name else 2 * weight.numel()  # ternary, bfloat16
        for name, weight in model.named_parameters()
    )
    there = next(parent for parent in folder.absolute().parents if parent.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise ShortlistError(
            f"{folder} needs {needed / 1e6:.1f} MB, and {free / 1e6:.1f} MB are left there: "
            "free some, or name another folder"
        )


def load_converted(folder: str | Path) -> Any:
    """Load a converted model as a `transformers` model in float32, with `shortlist.torch.MoE` layers.

    Raises
    ------
    CheckpointError
        The folder is not a converted checkpoint, or is damaged.
    """
    import transformers  # the import takes seconds

    folder = Path(folder)
    try:
        settings = json.loads((folder / "config.json").read_bytes())
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be read as a converted model: {error}") from None
    if not isinstance(settings, dict) or "shortlist" not in settings:
        raise CheckpointError(f"{folder} is not a converted model: load it with transformers")
    config = MoEConfig.from_json(settings.pop("shortlist"), folder / "config.json")
    dense = transformers.AutoConfig.for_model(**settings)
    model = transformers.AutoModelForCausalLM.from_config(dense, dtype=torch.float32)
    install(model, config)
    if config.ternary:
        _unpack(tensors)
    renamed = {_module_name(name): tensor.float() for name, tensor in tensors.items()}
    try:
        missing, unknown = model.load_state_dict(renamed, strict=False)
    except RuntimeError as error:
        raise CheckpointError(f"{folder}: {str(error).splitlines()[-1].strip()}: convert it again") from None
    if lost := [name for name in missing if name != "lm_head.weight"] + unknown:
        raise CheckpointError(f"{folder}: {lost[0]} does not fit its config.json: convert it again")
    model.tie_weights()
    return model.eval()


@torch.no_grad()
def stored_tensors(model: Any, config: MoEConfig, dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
    """The tensors of the file, under their names there; rounds the model's own weights to `dtype`."""
    tensors = {}
    for name, tensor in model.state_dict().items():
        if ".parametrizations." in name or (name == "lm_head.weight" and model.config.tie_word_embeddings):
            continue
        if ".mlp.gate." not in name and not name.startswith("model.router."):
            rounded = tensor.to(dtype)
            tensor.copy_(rounded)
            tensor = rounded
        tensors[_file_name(name)] = tensor.contiguous()
    if config.ternary:
        blocks = find_blocks(model)
        for index in config.layers:
            layer, block = blocks[index]
            tensors |= _packed(f"model.layers.{index}.{block}.experts", getattr(layer, block).experts)
    return tensors


def _packed(prefix: str, experts: Any) -> dict[str, Tensor]:
    tensors = {}
    for name in PACKED:
        assert parametrize.is_parametrized(experts, name)
        codes, scale = ternary.ternarize(experts.parametrizations[name].original)
        tensors[f"{prefix}.{name}"] = torch.from_numpy(ternary.pack(codes.to(torch.int8).numpy()))
        tensors[f"{prefix}.{name.replace('_proj', '_scale')}"] = scale.contiguous()
    return tensors


def _unpack(tensors: dict[str, Tensor]) -> None:
    """Replace codes and scales by the weights that they encode."""
    for name in [name for name in tensors if name.endswith("_scale")]:
        scale, packed = tensors.pop(name), name.replace("_scale", "_proj")
        codes = torch.from_numpy(ternary.unpack(tensors[packed].numpy()))
        tensors[packed] = codes * scale[..., None]


def _file_name(name: str) -> str:
    return name.replace(".mlp.gate.router.", ".mlp.gate.")


def _module_name(name: str) -> str:
    return name.replace(".mlp.gate.weight", ".mlp.gate.router.weight")
