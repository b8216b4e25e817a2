"""Builds the model of a configuration: a `transformers` decoder, with `MoE` layers where it has experts."""

import copy
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from shortlist.errors import CheckpointError, UsageError
from shortlist.model.tokenizer.tokenizer import Tokenizer
from shortlist.torch import Experts, Gate, MoE, patch
from shortlist.torch.blocks import find_blocks
from shortlist.torch.dense_weights import fill_copies
from shortlist.torch.gates import GATES, WRAPPERS
from shortlist.torch.moe import moe_layers
from shortlist.torch.train import checkpoint
from shortlist.torch.train.config import USUAL_LOSSES, Config, GateConfig, MoEConfig
from shortlist.torch.train.tables import nearest, to_table, unknown_key
from shortlist.torch.train.tokenizer import end_of_text

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def build_model(config: Config, tokenizer: Tokenizer, *, start: bool = True) -> "PreTrainedModel":
    """Build a model with random weights by seed, or with the weights of the run that `[model]` starts from.

    Parameters
    ----------
    config, tokenizer
        The configuration and the tokenizer of the run.
    start
        Whether to load the weights that `[model]` starts from; not needed where a checkpoint replaces them.

    Raises
    ------
    UsageError
        The type of the model, a key of `[model]` or the gate is unknown, or values contradict each other.
    """
    from transformers import AutoModelForCausalLM

    torch.manual_seed(config.training.seed)
    settings = decoder_config(config, tokenizer)
    try:
        model = AutoModelForCausalLM.from_config(settings, dtype=torch.float32)
    except Exception as error:  # any class: the model's own code raises it
        raise _refused("cannot build this model", error) from None
    if start and config.model.start is not None:
        _take_weights(model, Path(config.model.start))
    if config.moe is not None:
        add_experts(model, config.moe, copies=config.model.start is not None)
    return model


def decoder_config(config: Config, tokenizer: Tokenizer) -> "PreTrainedConfig":
    """The configuration of the dense decoder, for `transformers`."""
    from transformers import AutoConfig

    table = to_table(config.model)
    kind = table.pop("type")
    table.pop("start", None)
    try:
        known = AutoConfig.for_model(kind).to_dict()
    except ValueError:
        raise UsageError(
            f"[model] type {kind!r} is not one of transformers': name one such as llama, qwen3 or mistral"
        ) from None
    vocabulary = {
        "vocab_size": tokenizer.vocab_size,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": end_of_text(tokenizer),
        "pad_token_id": None,
    }
    for key in table:
        if key in vocabulary:
            raise UsageError(f"[model] {key} is as the tokenizer has it: leave it out")
        if key not in known:
            raise unknown_key("[model] ", key, known)
    try:
        return AutoConfig.for_model(kind, **vocabulary, **table)
    except Exception as error:  # any class: the configuration's own checks raise it
        raise _refused("refuses this", error) from None


def _refused(how: str, error: Exception) -> UsageError:
    return UsageError(f"[model]: transformers {how} ({type(error).__name__}: {error}): correct its keys")


def add_experts(model: "PreTrainedModel", config: MoEConfig, *, copies: bool = False) -> None:
    """Replace feed-forward layers by mixtures of experts: random experts, or copies of the layer."""
    settings: Any = model.config
    layers = settings.num_hidden_layers
    counts = (config.experts,) * layers if isinstance(config.experts, int) else config.experts
    if len(counts) != layers:
        raise UsageError(f"[moe] experts lists {len(counts)} layers, and the model has {layers}")
    if not any(counts):
        raise UsageError("[moe] leaves every layer dense: give experts to at least one, or leave [moe] out")
    blocks = [getattr(parent, name) for parent, name in find_blocks(model)]
    if copies and not all(hasattr(block, "gate_proj") for block in blocks):
        raise UsageError(f"[model] start: feed-forward layers of {settings.model_type} cannot be copied")
    gated = [
        _is_gated(block, settings) if count else False for block, count in zip(blocks, counts, strict=True)
    ]
    if copies and config.width not in (None, settings.intermediate_size):
        raise UsageError("[moe] width must be left out where experts start as copies: they have the layer's")

    def make(index: int, block: nn.Module) -> nn.Module:
        width = config.width or settings.intermediate_size
        experts = Experts(counts[index], settings.hidden_size, width, _activation(settings), gated[index])
        if copies:
            fill_copies(experts, block, config.masked)
        else:
            _draw(experts, settings)
        gate = make_gate(config.gate, settings.hidden_size, counts[index])
        return MoE(gate, experts, shared=_shared(settings, block, config.shared))

    patch(model, make, [index for index, count in enumerate(counts) if count])


def loss_weights(model: nn.Module, config: MoEConfig | None) -> Mapping[str, float]:
    """Weights of auxiliary losses by name; each of them is a loss that some gate of the model gives.

    Raises
    ------
    UsageError
        No gate gives a configured loss.
    """
    given = {name for layer in moe_layers(model) for name in layer.gate.gives}
    if config is None or config.losses is None:
        return {name: weight for name, weight in USUAL_LOSSES.items() if name in given}
    for name in config.losses:
        if name not in given:
            raise unknown_key("[moe.losses] ", name, given)
    return config.losses


def _take_weights(model: nn.Module, run: Path) -> None:
    saved = checkpoint.latest(run)
    if saved is None:
        raise UsageError(f"[model] start: {run} holds no run with a checkpoint: name the folder of one")
    try:
        checkpoint.load_weights(saved, model)
    except CheckpointError as error:
        raise UsageError(f"[model] start: {error}") from None


def make_gate(config: GateConfig, width: int, experts: int) -> Gate:
    """The gate that `[moe.gate]` names.

    Raises
    ------
    UsageError
        No gate has this name, or it has no such option.
    """
    if config.kind not in GATES:
        raise UsageError(f"[moe.gate] kind {config.kind!r} is unknown: {nearest(config.kind, GATES)}")
    cls = GATES[config.kind]
    known = [name for name in inspect.signature(cls).parameters if name not in ("width", "experts")]
    for key in config.options:
        if key not in known:
            raise unknown_key("[moe.gate] ", key, known)
    try:
        gate = cls(width, experts, **config.options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"[moe.gate]: {error}") from None
    for name in config.wrap:
        if name not in WRAPPERS:
            raise UsageError(f"[moe.gate] wrap {name!r} is unknown: {nearest(name, WRAPPERS)}")
        gate = WRAPPERS[name](gate)
    return gate


def _shared(settings: Any, block: nn.Module, width: int) -> nn.Module | None:
    """A feed-forward layer of the decoder's class with another width."""
    if not width:
        return None
    narrow = copy.copy(settings)
    narrow.intermediate_size = width
    shared = type(block)(narrow)
    _draw(shared, settings)
    return shared


def _draw(module: nn.Module, settings: Any) -> None:
    """Draw weights in the way of `transformers` for dense layers."""
    for weight in module.parameters():
        nn.init.normal_(weight, std=settings.initializer_range)


@torch.no_grad()
def _is_gated(block: nn.Module, settings: Any) -> bool:
    """Whether the neurons of a feed-forward layer, and then of its experts, have gates.

    Raises
    ------
    UsageError
        An expert with the layer's weights would not compute the same as the layer.
    """
    refused = UsageError(
        f"[moe] cannot replace {type(block).__name__} of [model] type {settings.model_type!r}, which does "
        "not compute what an expert does: leave [moe] out, or choose a dense type such as llama"
    )
    matrices = {name: part.weight for name, part in block.named_children() if isinstance(part, nn.Linear)}
    match sorted(matrices):
        case ["down_proj", "gate_proj", "up_proj"]:
            gated, up = True, torch.cat([matrices["gate_proj"], matrices["up_proj"]])
        case ["down_proj", "gate_up_proj"]:
            gated, up = True, matrices["gate_up_proj"]
        case ["down_proj", "up_proj"]:
            gated, up = False, matrices["up_proj"]
        case _:
            raise refused
    down = matrices["down_proj"]
    with torch.device("meta"):
        width, neurons = down.shape
        expert = Experts(1, width, neurons, _activation(settings), gated)
    setattr(expert, "gate_up_proj" if gated else "up_proj", nn.Parameter(up[None]))
    expert.down_proj = nn.Parameter(down[None])
    for bias in (part.bias for part in block.children() if isinstance(part, nn.Linear)):
        if bias is not None:
            raise refused  # a bias starts at zero, where it has no effect yet
    x = torch.linspace(-2, 2, 4 * down.shape[0]).view(4, -1)
    training = block.training
    same = torch.allclose(block.eval()(x), expert.one(x, 0), rtol=1e-4, atol=1e-6)
    block.train(training)
    if not same:
        raise refused
    return gated


def _activation(settings: Any) -> str:
    return getattr(settings, "hidden_act", None) or settings.hidden_activation
