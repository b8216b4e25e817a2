"""A method of conversion turns the feed-forward layers of a dense model into mixtures, in place."""

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

ACTIVE = 0.5  # share of neurons, where none is asked for
GROUP = 32  # expert widths are multiples of it, as the native runtime's quantization wants them
Report = Callable[[str, float], None]
"""Called with the name of a stage and the share of it that is done."""


@dataclass(frozen=True)
class Text:
    """Token sequences of one length, each from the start of a text.

    Parameters
    ----------
    ids : int64 [sequences, length]
    domains : int64 [sequences]
        Which of the given texts each is of.
    """

    ids: Tensor
    domains: Tensor


@dataclass(frozen=True)
class ConvertOptions:
    """What every method is told.

    Parameters
    ----------
    experts
        In each layer; None: the method's own default.
    active
        Share of the dense feed-forward neurons that a token takes, where the method lowers it; None: half.
    layers
        Which are converted; None: the method's own default.
    seed
        Of all that is drawn.

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
        As it is stored.
    notes
        What the method has to say about its result, by name: label churn, agreement of the router.
    """

    model: Any
    config: MoEConfig
    notes: dict[str, float] = field(default_factory=dict)


class Method(ABC):
    """One way from dense to mixture.

    Attributes
    ----------
    experts
        How many there are by default.
    refits
        Healing begins with the least-squares fit of `refit`: the mixture leaves out part of the dense layer.
    text_weight
        Share of the loss on the text itself in healing, beside the divergence from the dense model. A
        mixture that is more than the dense model has nothing to learn from that alone.
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
        """What healing trains: all of the decoder layers but the gates, which were trained already."""
        gates = {id(parameter) for layer in moe_layers(model) for parameter in layer.gate.parameters()}
        layers = [layer for layer, _ in find_blocks(model)]
        return [p for layer in layers for p in layer.parameters() if id(p) not in gates]

    def healing(self, converted: Converted) -> AbstractContextManager[None]:
        """Entered for the time of gradient steps."""
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
    """Indices of the layers to convert, the last fifth by default: training them passes through no others.

    Raises
    ------
    UsageError
        The model has no such layer.
    """
    count = model.config.num_hidden_layers
    last = tuple(range(count - max(1, count // 5), count))
    return layers_of(model, replace(options, layers=options.layers or last))


def refuse_active(options: ConvertOptions, method: str) -> None:
    """For methods that leave no neuron out.

    Raises
    ------
    UsageError
        An active share was asked for.
    """
    if options.active is not None:
        raise UsageError(f"--active is for methods that leave neurons out, not for {method}: leave it away")


def whole_groups(neurons: float) -> int:
    """The multiple of 32 that is nearest, at least 32."""
    return max(GROUP, GROUP * round(neurons / GROUP))


def neuron_sizes(mlp: Any, x: Tensor) -> Tensor:
    """What neurons add to the output: |activation| times their columns' norms, [tokens, neurons]."""
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
