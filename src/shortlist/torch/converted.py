"""The description of a converted model: mixture layers, experts, gates (docs/converted-checkpoints.md)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from shortlist.errors import CheckpointError, UsageError
from shortlist.torch.experts import Experts
from shortlist.torch.gates import DualPrice, Gate, SoftmaxTopK
from shortlist.torch.gates.norm_threshold import NormThreshold
from shortlist.torch.moe import MoE
from shortlist.torch.patching import Patch, patch
from shortlist.torch.shared_router import SharedRoute, SharedRouter, follow

FORMAT = 1
MAX_SIZE = 1 << 20  # the largest number that a file may give for any size
KINDS = ("softmax", "dual_price", "norm_threshold", "shared_router")


@dataclass(frozen=True)
class GateConfig:
    """The settings of a gate; those that its kind does not use are None or False.

    Parameters
    ----------
    kind
        `softmax` uses `k` and `normalize`, and so does `dual_price`, which normalizes where k > 1;
        `norm_threshold` uses `tau` and `width`, `shared_router` uses `width`.
    """

    kind: Literal["softmax", "dual_price", "norm_threshold", "shared_router"]
    k: int | None = None
    tau: float | None = None
    normalize: bool = False
    width: int | None = None


@dataclass(frozen=True)
class MoEConfig:
    """The key `shortlist.moe` of config.json. `method` records how the model was made; no reader needs it."""

    method: str
    experts: int
    expert_width: int
    shared_width: int
    gate: GateConfig
    ternary: bool
    layers: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """The value of the key `shortlist`."""
        return {"format": FORMAT, "moe": asdict(self)}

    @classmethod
    def from_json(cls, value: Any, where: Path) -> MoEConfig:
        """Read the value that `to_json` wrote.

        Raises
        ------
        CheckpointError
            The value has another format version, or breaks the rules of this one.
        """
        broken = CheckpointError(
            f"{where}: its key shortlist is not one that convert writes: convert it again"
        )
        match value:
            case {"format": int(version), "moe": {"gate": dict(gate), "layers": list(layers), **rest}}:
                pass
            case _:
                raise broken
        if version != FORMAT:
            raise CheckpointError(f"{where} is of format {version}, and {FORMAT} is known: update shortlist")
        try:
            config = cls(**rest, gate=GateConfig(**gate), layers=tuple(layers))
        except TypeError:
            raise broken from None
        sizes = (config.experts, config.expert_width, config.shared_width, *config.layers)
        optional = [size for size in (config.gate.k, config.gate.width) if size is not None]
        if config.gate.kind not in KINDS or not all(
            type(size) is int and 0 <= size < MAX_SIZE for size in (*sizes, *optional)
        ):
            raise broken
        return config


def make_gate(config: MoEConfig, width: int) -> Gate:
    """A gate with random weights."""
    gate = config.gate
    if gate.kind == "softmax":
        return SoftmaxTopK(width, config.experts, gate.k or 1, normalize=gate.normalize)
    if gate.kind == "dual_price":
        return DualPrice(width, config.experts, gate.k or 1)
    if gate.kind == "norm_threshold":
        return NormThreshold(width, config.experts, gate.tau or 1.0, hidden=gate.width or 1)
    return SharedRoute(width, config.experts)


def make_layer(config: MoEConfig, mlp: Any) -> MoE:
    """Make the mixture that replaces a dense feed-forward layer of `transformers`, with random weights.

    Raises
    ------
    UsageError
        The layer cannot be converted: it has no gate, or it has biases.
    """
    width, _ = dense_sizes(mlp)
    experts = Experts(config.experts, width, config.expert_width, activation_name(mlp))
    shared = sized_like(mlp, config.shared_width) if config.shared_width else None
    return MoE(make_gate(config, width), experts, shared=shared)


def install(model: Any, config: MoEConfig, blocks: Mapping[int, MoE] | None = None) -> Patch:
    """Replace the layers that `config` names by mixtures: the given `blocks`, or random ones."""
    done = patch(
        model, lambda index, mlp: blocks[index] if blocks else make_layer(config, mlp), config.layers
    )
    if config.gate.kind == "shared_router":
        embedding = model.get_input_embeddings().weight
        router = SharedRouter(embedding.shape[1], config.experts, config.gate.width or 1)
        model.base_model.router = router.to(embedding.device)
        hooks = follow(model.base_model)
        done.when_undone(*(hook.remove for hook in hooks), lambda: delattr(model.base_model, "router"))
    return done


def dense_sizes(mlp: Any) -> tuple[int, int]:
    """Width of the states and number of neurons of a dense feed-forward layer.

    Raises
    ------
    UsageError
        As for `make_layer`.
    """
    parts = [getattr(mlp, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    if not all(isinstance(part, nn.Linear) and part.bias is None for part in parts):
        raise UsageError(
            f"{type(mlp).__name__} cannot be converted: it needs gate, up and down without biases"
        )
    return mlp.up_proj.in_features, mlp.up_proj.out_features


def activation_name(mlp: Any) -> str:
    """The name of the activation of the model's feed-forward layers, as its configuration spells it."""
    return getattr(mlp.config, "hidden_act", None) or mlp.config.hidden_activation


def sized_like(mlp: Any, neurons: int) -> Any:
    """Make a feed-forward layer of the same class with this number of neurons, all weights zero."""
    small = copy.deepcopy(mlp)
    width, _ = dense_sizes(mlp)
    for name, shape in (
        ("gate_proj", (neurons, width)),
        ("up_proj", (neurons, width)),
        ("down_proj", (width, neurons)),
    ):
        linear = getattr(small, name)
        linear.weight = nn.Parameter(torch.zeros(shape, dtype=linear.weight.dtype))
        linear.out_features, linear.in_features = shape
    return small
