"""What a forward pass tells the layers of a model about its tokens.

Decoder layers know nothing of token ids. So a decoder hands them on as an argument of its own, its layers
hand it on to their attention, and there it is taken out. Whoever runs a layer again (activation
checkpointing) gives the same argument. From there to the block of the same layer, and in families whose
code hands nothing on, the tokens wait in the thread.

All hooks know their arguments and nothing else, so that copies of a model are on their own.
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
        Of a router that all layers share.
    state : float [batch, rank] or None
        That router's, after these tokens.
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
    """Those of the pass that this thread is in; None outside of any."""
    return _here.tokens


@contextmanager
def telling(tokens: Tokens) -> Iterator[None]:
    """Tell layers that are run one by one of their tokens, as a pass would."""
    before = _here.tokens, _here.passing
    _here.tokens, _here.passing = tokens, True
    try:
        yield
    finally:
        _here.tokens, _here.passing = before


def tell_more(tokens: Tokens, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Replace what the present pass of a decoder tells, for a later hook of it: its arguments by name."""
    _here.tokens = tokens
    return kwargs | {ARGUMENT: tokens} if ARGUMENT in kwargs else kwargs


def tell_tokens(owner: nn.Module, blocks: list[tuple[nn.Module, str]]) -> list[RemovableHandle]:
    """Let every pass of a decoder tell its layers, each given with its block's name, of its tokens."""
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
    is_ids = isinstance(ids, Tensor) and not ids.is_floating_point()  # and not embeddings or pixels
    inputs = ids if isinstance(ids, Tensor) else given.get("inputs_embeds")
    mask = _padding(owner, given.get("attention_mask"), inputs)
    _here.tokens, _here.passing = Tokens(ids if is_ids else None, mask), True


def _padding(owner: nn.Module, mask: Any, inputs: Tensor | None) -> Tensor | None:
    """The part of an attention mask that is of this pass's tokens: those before lie in the cache."""
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
    if not _here.passing:  # the layer was run again on its own
        _here.tokens = None
