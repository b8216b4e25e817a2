"""Brings token ids and the padding mask of a forward pass to the layers of a model.

Decoder layers get no token ids. So a hook adds them to the arguments of the decoder's layers, which pass
them on to their attention; another hook removes them there. Activation checkpointing runs a layer again with
the same arguments. From attention to the block of the same layer, and in families whose layers pass no extra
arguments on, the tokens are kept in a variable of the thread.

Hooks use only their arguments, so that copies of a model do not affect each other.
"""

import inspect
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

ARGUMENT = "shortlist_tokens"


@dataclass(frozen=True)
class Tokens:
    """The tokens of one forward pass.

    Parameters
    ----------
    ids : int64 [batch, length] or None
        None where a pass starts from embeddings.
    mask : bool [batch, length] or None
        False where a token is padding; None where none is.
    scores : float [batch * length, experts] or None
        Scores of a router that all layers share.
    state : float [batch, rank] or None
        The state of that router after these tokens.
    """

    ids: Tensor | None
    mask: Tensor | None = None
    scores: Tensor | None = None
    state: Tensor | None = None


class _Here(threading.local):
    tokens: Tokens | None = None
    passing = False


_here = _Here()


def tokens_here() -> Tokens | None:
    """The tokens of the pass that this thread runs; None outside of a pass."""
    return _here.tokens


@contextmanager
def telling(tokens: Tokens) -> Iterator[None]:
    """Set the tokens for layers that are run one by one, outside of a pass."""
    before = _here.tokens, _here.passing
    _here.tokens, _here.passing = tokens, True
    try:
        yield
    finally:
        _here.tokens, _here.passing = before


def tell_more(tokens: Tokens, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Replace the tokens of the running pass; returns the keyword arguments for the decoder's later hooks."""
    _here.tokens = tokens
    return kwargs | {ARGUMENT: tokens} if ARGUMENT in kwargs else kwargs


def tell_tokens(owner: nn.Module, blocks: list[tuple[nn.Module, str]]) -> list[RemovableHandle]:
    """Install hooks by which every pass of a decoder sets the tokens for its layers and their blocks."""
    hooks = [
        owner.register_forward_pre_hook(_begin_and_hand_on if _hands_on(owner) else _begin, with_kwargs=True),
        owner.register_forward_hook(_end, always_call=True),
    ]
    for layer, name in blocks:
        block = layer.get_submodule(name)
        hooks += [
            part.register_forward_pre_hook(_take, with_kwargs=True)
            for part in layer.children()
            if part is not block and _hands_on(part)
        ]
        hooks.append(block.register_forward_hook(_forget, always_call=True))
    return hooks


def _hands_on(module: nn.Module) -> bool:
    parameters = inspect.signature(module.forward).parameters.values()
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _begin(owner: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
    given = dict(zip(inspect.signature(owner.forward).parameters, args, strict=False)) | kwargs
    ids = given.get("input_ids", args[0] if args else None)
    is_ids = isinstance(ids, Tensor) and not ids.is_floating_point()  # neither embeddings nor pixels
    inputs = ids if isinstance(ids, Tensor) else given.get("inputs_embeds")
    mask = _padding(owner, given.get("attention_mask"), inputs)
    _here.tokens, _here.passing = Tokens(ids if is_ids else None, mask), True


def _padding(owner: nn.Module, mask: Any, inputs: Tensor | None) -> Tensor | None:
    """The part of an attention mask for the tokens of this pass; earlier tokens are in the cache."""
    if mask is None or inputs is None:
        return None
    batch, length = inputs.shape[:2]
    if not isinstance(mask, Tensor) or mask.dim() != 2 or len(mask) != batch or mask.shape[1] < length:
        if owner.training:
            warnings.warn(
                "the attention mask is not of [batch, length], so gates count padding as tokens: give one "
                "that is, or none where there is no padding",
                stacklevel=2,
            )
        return None
    own = mask[:, mask.shape[1] - length :] != 0
    return None if own.all() else own


def _begin_and_hand_on(owner: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    _begin(owner, args, kwargs)
    return args, kwargs | {ARGUMENT: _here.tokens}


def _end(_owner: nn.Module, _args: tuple, _output: object) -> None:
    _here.tokens, _here.passing = None, False


def _take(_part: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
    if ARGUMENT not in kwargs:
        return None
    _here.tokens = kwargs[ARGUMENT]
    return args, {name: value for name, value in kwargs.items() if name != ARGUMENT}


def _forget(_block: nn.Module, _args: tuple, _output: object) -> None:
    if not _here.passing:  # the layer was run again, alone
        _here.tokens = None
