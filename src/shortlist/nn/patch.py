"""Replaces the feed-forward blocks of a `transformers` model in place, and undoes it exactly."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from shortlist.errors import UsageError
from shortlist.nn.moe import moe_layers

BLOCKS = ("mlp", "feed_forward", "block_sparse_moe")  # what decoder layers call their feed-forward block


@dataclass
class Replaced:
    """One block that was replaced."""

    parent: nn.Module
    name: str
    original: nn.Module


@dataclass
class Patch:
    """What `patch` did to a model; also a context manager that undoes it at its end.

    Attributes
    ----------
    layers
        The new blocks, by index of their decoder layer.
    """

    layers: dict[int, nn.Module] = field(default_factory=dict)
    _replaced: list[Replaced] = field(default_factory=list)
    _hooks: list[RemovableHandle] = field(default_factory=list)

    def undo(self) -> None:
        """Puts the original blocks back. Undoing twice changes nothing."""
        for block in reversed(self._replaced):
            block.original.train(block.parent.training)
            setattr(block.parent, block.name, block.original)
        for hook in self._hooks:
            hook.remove()
        self._replaced.clear()
        self._hooks.clear()

    def __enter__(self) -> "Patch":
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()


def patch(
    model: nn.Module,
    make: Callable[[int, nn.Module], nn.Module],
    layers: Iterable[int] | None = None,
) -> Patch:
    """Replaces feed-forward blocks by what `make` returns for them.

    Parameters
    ----------
    model
        A `transformers` model, or one that holds it (a `peft` model).
    make
        From the index of a decoder layer and its block to the new block, which maps [batch, length, width] to
        the same shape. It may hold the old block or its parameters, and may differ from layer to layer.
    layers
        Indices of decoder layers; all by default.

    Raises
    ------
    UsageError
        The model has no decoder layers with feed-forward blocks, or none of such an index.
    """
    blocks = find_blocks(model)
    chosen = range(len(blocks)) if layers is None else layers
    done = Patch()
    try:
        for index in chosen:
            if not 0 <= index < len(blocks):
                raise UsageError(
                    f"no layer {index}: {type(model).__name__} has layers 0 to {len(blocks) - 1}"
                )
            parent, name = blocks[index]
            original = getattr(parent, name)
            new = make(index, original).train(parent.training)
            done._replaced.append(Replaced(parent, name, original))
            done.layers[index] = new
            setattr(parent, name, new)
        done._hooks += _pass_token_ids(model)
    except BaseException:
        done.undo()
        raise
    return done


def find_blocks(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """The decoder layers of a model, each with the name of its feed-forward block.

    Raises
    ------
    UsageError
        There are none.
    """
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module):
            names = [next((n for n in BLOCKS if hasattr(layer, n)), None) for layer in module]
            if None not in names:
                return [(layer, str(name)) for layer, name in zip(module, names, strict=True)]
    raise UsageError(f"{type(model).__name__} has no decoder layers with a block named {' or '.join(BLOCKS)}")


def _pass_token_ids(model: nn.Module) -> list[RemovableHandle]:
    """Gates may ask for token ids, which a decoder layer does not see: they are taken on their way in."""

    def keep(ids: Tensor | None) -> None:
        for layer in moe_layers(model):
            layer.token_ids = ids

    embedding: nn.Module = model.get_input_embeddings()  # pyright: ignore[reportCallIssue]
    return [
        model.register_forward_pre_hook(lambda *_: keep(None)),  # a pass may start from embeddings
        embedding.register_forward_pre_hook(lambda _, args: keep(args[0])),
    ]
