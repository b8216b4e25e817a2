"""Saves a finished run's model as a Hugging Face folder."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import torch

from shortlist.checkpoints import open_checkpoint
from shortlist.errors import CheckpointError, ShortlistError
from shortlist.torch import Experts, SoftmaxTopK
from shortlist.torch.blocks import find_blocks
from shortlist.torch.converted import GateConfig, MoEConfig, dense_sizes
from shortlist.torch.converted_files import write_model
from shortlist.torch.gates import DualPrice
from shortlist.torch.moe import MoE, moe_layers
from shortlist.torch.train.config import Config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NO_FORMAT = (
    "no format of a folder holds these experts, this gate or this decoder, so there is no config.json: "
    "load it with shortlist.torch.train.load_run"
)
_ROUTER = ".mlp.gate.router.weight"
TWINS = {"llama": "mixtral", "qwen3": "qwen3_moe"}
"""Families of mixtures, by the dense family with the same decoder."""


def export(model: "PreTrainedModel", config: Config, folder: Path) -> str | None:
    """Write `config.json` and `model.safetensors` beside the tokenizer.

    A dense model is saved in its own family. A llama or qwen3 with experts behind softmax gates is saved in
    the family that `TWINS` names. Other models with experts behind `softmax` or `dual_price` gates are saved
    in the format of converted models (`shortlist.torch.load_converted`), which the native runtime reads and
    `transformers` does not.

    Returns
    -------
    str or None
        A note for the user: `transformers` does not read the model, or only `load_run` does.

    Raises
    ------
    ShortlistError
        The folder cannot be written.
    """
    saved = model if config.moe is None else _as_known(model)
    own = _own_format(model) if saved is None else None
    if saved is None and own is None:
        return NO_FORMAT
    staging = folder / ".model"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        if saved is not None:
            _save(saved, staging)
        else:
            assert own is not None
            write_model(model, own, staging, torch.float32)
            open_checkpoint(staging).close()  # raises where the native runtime does not know the decoder
        # The configuration is moved last: once it exists, all files do.
        for file in sorted(staging.iterdir(), key=lambda file: file.name == "config.json"):
            file.replace(folder / file.name)
    except CheckpointError:
        return NO_FORMAT
    except (OSError, safetensors.SafetensorError) as error:
        raise ShortlistError(
            f"the model cannot be written to {folder} ({error}): free some space there, then write it with "
            f"shortlist train {folder}"
        ) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return (
        "transformers has no such gate or experts: load it with shortlist.torch.load_converted"
        if own
        else None
    )


def _save(model: "PreTrainedModel", folder: Path) -> None:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model.save_pretrained(folder)
    finally:
        if shown:
            logging.enable_progress_bar()


def _as_known(model: "PreTrainedModel") -> "PreTrainedModel | None":
    """The same model in a family of `transformers`, where there is a family with these mixtures."""
    from transformers import AutoConfig, AutoModelForCausalLM

    settings: Any = model.config
    layers = list(moe_layers(model))
    first: Any = layers[0]
    kind = TWINS.get(settings.model_type)
    if kind is None or len(layers) < settings.num_hidden_layers:
        return None
    if not all(_is_known(layer, first, settings) for layer in layers):
        return None
    if kind == "mixtral" and not first.gate.normalize:
        return None
    sizes = {"num_experts_per_tok": first.gate.k}
    if kind == "mixtral":
        sizes |= {"num_local_experts": first.gate.experts, "intermediate_size": first.experts.hidden}
    else:
        sizes |= {
            "num_experts": first.gate.experts,
            "moe_intermediate_size": first.experts.hidden,
            "norm_topk_prob": first.gate.normalize,
        }
    known = AutoConfig.for_model(kind).to_dict()
    shared = {
        key: value
        for key, value in settings.to_dict().items()
        if key in known and key not in ("model_type", "architectures")
    }
    twin = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shared | sizes), dtype=model.dtype)
    weights = {
        name.replace(_ROUTER, ".mlp.gate.weight"): tensor for name, tensor in model.state_dict().items()
    }
    if weights.keys() != twin.state_dict().keys():  # for example biases
        return None
    twin.load_state_dict(weights)
    return twin


def _own_format(model: "PreTrainedModel") -> MoEConfig | None:
    """The description of a model's mixtures in the format of converted models, where there is one."""
    found = {
        index: layer
        for index, (parent, name) in enumerate(find_blocks(model))
        if isinstance(layer := getattr(parent, name), MoE)
    }
    described = {_described(layer) for layer in found.values()}
    if len(described) != 1 or None in described:
        return None
    (one,) = described
    assert one is not None
    experts, width, shared, gate = one
    return MoEConfig("train", experts, width, shared, gate, ternary=False, layers=tuple(found))


def _described(layer: MoE) -> tuple[int, int, int, GateConfig] | None:
    """Number and width of the experts, width of the shared expert, gate."""
    gate, experts, shared = layer.gate, layer.experts, layer.shared_expert
    if not isinstance(experts, Experts) or not experts.gated or layer.shared_expert_gate is not None:
        return None
    if type(gate) is SoftmaxTopK:
        kind = GateConfig("softmax", k=gate.k, normalize=gate.normalize)
    elif type(gate) is DualPrice:
        kind = GateConfig("dual_price", k=gate.k, normalize=gate.k > 1)
    else:
        return None
    return experts.count, experts.hidden, dense_sizes(shared)[1] if shared is not None else 0, kind


def _is_known(layer: MoE, first: MoE, settings: Any) -> bool:
    gate, other = layer.gate, first.gate
    experts: Any = layer.experts
    return (
        type(gate) is SoftmaxTopK
        and type(other) is SoftmaxTopK
        and (gate.experts, gate.k, gate.normalize) == (other.experts, other.k, other.normalize)
        and (experts.hidden, experts.gated) == (first.experts.hidden, True)
        and experts.activation == settings.hidden_act
        and layer.shared_expert is None
    )
