"""The interface of a conversion method: it turns feed-forward layers into mixtures, in place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from shortlist.errors import UsageError
from shortlist.torch import moe_layers
from shortlist.torch.blocks import find_blocks
from shortlist.torch.converted import MoEConfig, dense_sizes

ACTIVE = 0.5  # default share of active neurons
GROUP = 32  # expert widths are multiples of it, the block size of the native runtime's quantization
Report = Callable[[str, float], None]
"""A callback that gets the name of a stage and the share of it that is done."""


@dataclass(frozen=True)
class Text:
    """Token sequences of one length, each with the model's start tokens.

    Parameters
    ----------
    ids : int64 [sequences, length]
    domains : int64 [sequences]
        Index of the text that each sequence is from.
    """

    ids: Tensor
    domains: Tensor


@dataclass(frozen=True)
class ConvertOptions:
    """The options of every method.

    Parameters
    ----------
    experts
        Number of experts in each layer; None: the method's default.
    active
        Share of the dense layer's neurons that a token uses, for methods that lower it; None: half.
    layers
        Indices of the layers to convert; None: the method's default.
    seed
        Seed of all random numbers.

    Raises
    ------
    UsageError
        A value is out of range.
    """

    experts: int | None = None
    active: float | None = None
    layers: tuple[int, ...] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.experts is not None and not 2 <= self.experts <= 256:
            raise UsageError(f"there must be 2 to 256 experts, not {self.experts}")
        if self.active is not None and not 0 < self.active <= 1:
            raise UsageError(f"the active share must be above 0 % and at most 100 %, not {self.active:.0%}")
        if not 0 <= self.seed < 1 << 63:
            raise UsageError(f"the seed must be from 0 to 2^63 - 1, not {self.seed}")


@dataclass
class Converted:
    """A model that was converted in place.

    Attributes
    ----------
    config
        The description that is stored with the model.
    notes
        The method's own figures about its result, by name: label churn, agreement of the router.
    """

    model: Any
    config: MoEConfig
    notes: dict[str, float] = field(default_factory=dict)


class Method(ABC):
    """A way to make a mixture from a dense model.

    Attributes
    ----------
    experts
        Default number of experts.
    refits
        Whether healing begins with the least-squares fit of `refit`, because the mixture leaves out a part
        of the dense layer.
    text_weight
        Weight, in healing, of the loss on the text itself; the divergence from the dense model has the rest.
        A mixture that extends the dense model can learn nothing from the divergence alone.
    """

    experts: ClassVar[int]
    refits: ClassVar[bool]
    text_weight: ClassVar[float]

    @abstractmethod
    def convert(self, model: Any, text: Text, options: ConvertOptions, report: Report) -> Converted:
        """Convert a `transformers` model in place, calibrated on a text.

        Raises
        ------
        UsageError
            The model or the options do not fit the method.
        """

    def trained(self, model: Any) -> list[torch.nn.Parameter]:
        """The parameters that healing trains: the decoder layers without gates, which are trained already."""
        gates = {id(parameter) for layer in moe_layers(model) for parameter in layer.gate.parameters()}
        layers = [layer for layer, _ in find_blocks(model)]
        return [p for layer in layers for p in layer.parameters() if id(p) not in gates]

    def healing(self, converted: Converted) -> AbstractContextManager[None]:
        """A context manager that is active during gradient steps."""
        return nullcontext()


def layers_of(model: Any, options: ConvertOptions) -> tuple[int, ...]:
    """Indices of the layers to convert, all by default.

    Raises
    ------
    UsageError
        The model has no such layer.
    """
    count = model.config.num_hidden_layers
    chosen = tuple(range(count)) if options.layers is None else tuple(sorted(set(options.layers)))
    if not chosen or not 0 <= chosen[0] <= chosen[-1] < count:
        raise UsageError(f"the model has layers 0 to {count - 1}: name some of them with --layers")
    return chosen


def last_layers(model: Any, options: ConvertOptions) -> tuple[int, ...]:
    """Indices of the layers to convert; by default the last fifth, so that backward passes are short.

    Raises
    ------
    UsageError
        The model has no such layer.
    """
    count = model.config.num_hidden_layers
    last = tuple(range(count - max(1, count // 5), count))
    return layers_of(model, replace(options, layers=options.layers or last))


def refuse_active(options: ConvertOptions, method: str) -> None:
    """Refuse an active share, for methods that leave no neuron out.

    Raises
    ------
    UsageError
        An active share was asked for.
    """
    if options.active is not None:
        raise UsageError(f"--active is for methods that leave neurons out, not for {method}: leave it away")


def whole_groups(neurons: float) -> int:
    """The nearest multiple of 32, at least 32."""
    return max(GROUP, GROUP * round(neurons / GROUP))


def neuron_sizes(mlp: Any, x: Tensor) -> Tensor:
    """Magnitude of the output of each neuron: |activation| times its column's norm, [tokens, neurons]."""
    with torch.no_grad():
        activations = mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x)
        return activations.abs() * mlp.down_proj.weight.norm(dim=0)


def block_of(model: Any, layer: int) -> Any:
    """The feed-forward block of a layer."""
    parent, name = find_blocks(model)[layer]
    return getattr(parent, name)


def neurons_of(model: Any) -> int:
    """Neurons of a dense feed-forward layer of the model."""
    return dense_sizes(block_of(model, 0))[1]
