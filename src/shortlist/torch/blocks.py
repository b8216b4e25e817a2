"""Finds the feed-forward blocks of a model's language part, and how its layers use them."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from shortlist.errors import UsageError

BLOCKS = ("mlp", "feed_forward", "block_sparse_moe")  # attributes of decoder layers
TOWERS = ("vision", "visual", "image", "video", "audio", "speech")  # parts of names: no language model


@dataclass(frozen=True)
class Stack:
    """The decoder layers of a model.

    Parameters
    ----------
    owner
        The module that runs the layers one after another.
    blocks
        The layers, each with the name of its feed-forward block.
    """

    owner: nn.Module
    blocks: list[tuple[nn.Module, str]]


def find_blocks(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """The decoder layers of a model, with the names of their blocks; errors as in `find_stack`."""
    return find_stack(model).blocks


def find_stack(model: nn.Module) -> Stack:
    """Find the decoder layers of a model; in a multimodal model, those of its language model.

    Raises
    ------
    UsageError
        The model has no decoder layers, or several candidates without a way to choose among them.
    """
    scope = _language_model(model)
    found = dict(_stacks(scope))
    if getattr(getattr(scope, "config", None), "sub_configs", None):  # a multimodal model
        found = {path: stack for path, stack in found.items() if not any(word in path for word in TOWERS)}
    if not found:
        raise UsageError(
            f"{type(model).__name__} has no decoder layers with a block named {' or '.join(BLOCKS)} in its "
            "language model: pass the part that is meant"
        )
    if len(found) > 1:
        raise UsageError(
            f"{type(model).__name__} has layers at {' and '.join(found)}: pass the part that is meant"
        )
    return next(iter(found.values()))


def check_use(layer: nn.Module, name: str) -> None:
    """Check in the source code of a layer that its block maps states to states.

    Raises
    ------
    UsageError
        The layer gives the block other arguments too, takes its output apart, or cannot be read.
    """
    block = f"{type(getattr(layer, name)).__name__} in a {type(layer).__name__}"
    for cls in type(layer).__mro__:
        uses = list(_uses(cls, name))
        if uses:
            if not all(uses):
                raise UsageError(
                    f"{block} cannot be replaced: the layer does not use it as a map from states to states"
                )
            return
    raise UsageError(f"{block} cannot be replaced: no code of the layer that calls it can be read")


def _language_model(model: Any) -> nn.Module:
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    return decoder if isinstance(decoder, nn.Module) else model


def _stacks(scope: nn.Module) -> Iterator[tuple[str, Stack]]:
    for path, module in scope.named_modules():
        if isinstance(module, nn.ModuleList) and len(module):
            names = [next((n for n in BLOCKS if hasattr(layer, n)), None) for layer in module]
            if None not in names:
                owner = scope.get_submodule(path.rpartition(".")[0])
                yield (
                    path,
                    Stack(owner, [(layer, str(name)) for layer, name in zip(module, names, strict=True)]),
                )


def _uses(cls: type, name: str) -> Iterator[bool]:
    """For each call of a block in the code of a class: is it `states = self.block(states)`?"""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):  # a class made at run time has no source file
        return
    above = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"self.{name}":
            alone = len(node.args) == 1 and not isinstance(node.args[0], ast.Starred) and not node.keywords
            yield alone and not _taken_apart(node, above, tree)


def _taken_apart(node: ast.expr, above: dict[ast.AST, ast.AST], tree: ast.AST) -> bool:
    """Whether a value, or a variable that is set to it, is indexed or assigned to several names."""
    match above[node]:
        case ast.Subscript(value=value) if value is node:
            return True
        case ast.Assign(targets=[ast.Tuple() | ast.List()]):
            return True
        case ast.Assign(targets=[ast.Name(id=variable)]):
            return any(_unpacks(other, variable, above) for other in ast.walk(tree))
    return False


def _unpacks(node: ast.AST, variable: str, above: dict[ast.AST, ast.AST]) -> bool:
    match node:
        case ast.Assign(targets=[ast.Tuple() | ast.List()], value=ast.Name(id=name)) if name == variable:
            match above[node]:
                case ast.If(test=test) if ast.unparse(test) == f"isinstance({variable}, tuple)":
                    return False  # a tensor is not unpacked
            return True
    return False
