"""Saves a finished run's model as a Hugging Face folder."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors

from shortlist.errors import ShortlistError
from shortlist.nn import SoftmaxTopK
from shortlist.nn.moe import MoE, moe_layers
from shortlist.training.config import Config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ROUTER = ".mlp.gate.router.weight"


def export(model: "PreTrainedModel", config: Config, folder: Path) -> str | None:
    """Write `config.json` and `model.safetensors` beside the tokenizer.

    A dense model is saved as what it is, a llama with experts behind softmax gates as a mixtral.

    Returns
    -------
    str or None
        Why nothing was written: no family of `transformers` is this model.

    Raises
    ------
    ShortlistError
        It cannot be written.
    """
    saved = model if config.moe is None else _as_mixtral(model)
    if saved is None:
        return (
            "no family of transformers has these experts or this gate, so there is no config.json: "
            "load it with shortlist.training.load_run"
        )
    staging = folder / ".model"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        _save(saved, staging)
        # The configuration comes last: then all is there.
        for file in sorted(staging.iterdir(), key=lambda file: file.name == "config.json"):
            file.replace(folder / file.name)
    except (OSError, safetensors.SafetensorError) as error:
        raise ShortlistError(
            f"the model cannot be written to {folder} ({error}): free some space there, then write it with "
            f"shortlist train {folder}"
        ) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return None


def _save(model: "PreTrainedModel", folder: Path) -> None:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model.save_pretrained(folder)
    finally:
        if shown:
            logging.enable_progress_bar()


def _as_mixtral(model: "PreTrainedModel") -> "PreTrainedModel | None":
    """The same model as `transformers` defines it, where it is one of that family."""
    from transformers import AutoConfig, AutoModelForCausalLM

    settings: Any = model.config
    layers = list(moe_layers(model))
    if settings.model_type != "llama" or len(layers) < settings.num_hidden_layers:
        return None
    if not all(_is_mixtral(layer, layers[0]) for layer in layers):
        return None
    gate: Any = layers[0].gate
    own = settings.to_dict()
    known = AutoConfig.for_model("mixtral").to_dict()
    shared = {
        key: value
        for key, value in own.items()
        if key in known and key not in ("model_type", "architectures")
    }
    shared |= {
        "intermediate_size": layers[0].experts.hidden,
        "num_local_experts": gate.experts,
        "num_experts_per_tok": gate.k,
    }
    twin = AutoModelForCausalLM.from_config(AutoConfig.for_model("mixtral", **shared), dtype=model.dtype)
    weights = {
        name.replace(_ROUTER, ".mlp.gate.weight"): tensor for name, tensor in model.state_dict().items()
    }
    if weights.keys() != twin.state_dict().keys():  # such as biases
        return None
    twin.load_state_dict(weights)
    return twin


def _is_mixtral(layer: MoE, first: MoE) -> bool:
    gate, other = layer.gate, first.gate
    return (
        type(gate) is SoftmaxTopK
        and type(other) is SoftmaxTopK
        and gate.normalize
        and (gate.experts, gate.k, layer.experts.hidden) == (other.experts, other.k, first.experts.hidden)
        and layer.shared_expert is None
    )
