"""Replaces the feed-forward blocks of a `transformers` model in place, and puts them back exactly."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import nn

from shortlist.errors import UsageError
from shortlist.torch.blocks import check_use, find_stack
from shortlist.torch.tokens import tell_tokens


@dataclass(frozen=True)
class Replaced:
    """The record of one replaced block."""

    index: int
    parent: nn.Module
    name: str
    original: nn.Module
    new: nn.Module
    beside: nn.Parameter | None  # another parameter of the layer; its device and type then
    was: tuple[torch.device, torch.dtype] | None

    def check(self) -> None:
        """Raise `UsageError` where putting the original back would also discard later changes."""
        if getattr(self.parent, self.name) is not self.new:
            raise UsageError(f"layer {self.index} was replaced again after this patch: undo that one first")
        kept = set(self.original.modules())
        if any(type(m).__module__.startswith("peft.") for m in self.new.modules() if m not in kept):
            raise UsageError(f"layer {self.index} holds an adapter of peft: unload or merge it before undo")

    def undo(self) -> None:
        """Put the original back, on the device and in the type that the model has now."""
        self.original.train(self.new.training)
        now = _where(self.beside)
        if now and now != self.was:
            self.original.to(*now)
        setattr(self.parent, self.name, self.original)


@dataclass
class Patch:
    """The record of a call of `patch`, which can undo it; also a context manager that undoes it at its end.

    Attributes
    ----------
    layers
        The new blocks, by index of their decoder layer.
    """

    layers: dict[int, nn.Module] = field(default_factory=dict)
    _replaced: list[Replaced] = field(default_factory=list)
    _cleanup: list[Callable[[], None]] = field(default_factory=list)

    def undo(self) -> None:
        """Put all original blocks back, or none. Undoing twice changes nothing.

        Raises
        ------
        UsageError
            A block was replaced again later, or holds an adapter that would be lost.
        """
        for block in self._replaced:
            block.check()
        for block in self._replaced:
            block.undo()
        for clean in self._cleanup:
            clean()
        self._replaced.clear()
        self._cleanup.clear()

    def when_undone(self, *cleanup: Callable[[], None]) -> None:
        """Register functions that `undo` calls, too."""
        self._cleanup += cleanup

    def __enter__(self) -> "Patch":
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()


def patch(
    model: nn.Module,
    make: Callable[[int, nn.Module], nn.Module],
    layers: Iterable[int] | None = None,
) -> Patch:
    """Replace feed-forward blocks by the modules that `make` returns for them.

    Parameters
    ----------
    model
        A `transformers` model, or a model that wraps one (a `peft` model).
    make
        Takes the index of a decoder layer and its block, and returns the new block, which maps
        [batch, length, width] to the same shape. The new block may hold the old one or its parameters.
    layers
        Indices of decoder layers; all by default.

    Raises
    ------
    UsageError
        The model has no decoder layers with feed-forward blocks; an index is out of range; or a layer's code
        does not use its block as a map from states to states. The model is then unchanged.
    """
    stack = find_stack(model)
    blocks = stack.blocks
    chosen = dict.fromkeys(range(len(blocks)) if layers is None else layers)
    for index in chosen:
        if not 0 <= index < len(blocks):
            raise UsageError(f"no layer {index}: {type(model).__name__} has layers 0 to {len(blocks) - 1}")
        check_use(*blocks[index])
    done = Patch()
    for index in chosen:
        parent, name = blocks[index]
        original = parent.get_submodule(name)
        new = make(index, original)
        if not isinstance(new, nn.Module):
            raise UsageError(f"make returned {new!r} for layer {index}: it must return a module")
        beside = _beside(parent, name)
        done._replaced.append(Replaced(index, parent, name, original, new, beside, _where(beside)))
        done.layers[index] = new
    for block in done._replaced:  # nothing below can fail
        setattr(block.parent, block.name, block.new.train(block.parent.training))
    done.when_undone(*(hook.remove for hook in tell_tokens(stack.owner, blocks)))
    return done


def _beside(parent: nn.Module, block: str) -> nn.Parameter | None:
    for path, parameter in parent.named_parameters():
        if not path.startswith(f"{block}.") and parameter.is_floating_point():
            return parameter
    return None


def _where(parameter: nn.Parameter | None) -> tuple[torch.device, torch.dtype] | None:
    return None if parameter is None else (parameter.device, parameter.dtype)
