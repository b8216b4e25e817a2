"""Finds the module in which a model's numbers stop being finite."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from shortlist.errors import ShortlistError


class NotFiniteError(ShortlistError):
    """A loss or a gradient is infinite or not a number; the weights are those before the step."""


def check_loss(
    loss: Tensor, model: nn.Module, tokens: Tensor, losses: Mapping[str, Tensor], step: int
) -> None:
    """Raise `NotFiniteError` where a loss on tokens is not finite.

    Parameters
    ----------
    tokens : int64 [batch, length]
        The model's input; the model is run on it once more to find the first such module.
    losses
        Auxiliary losses by name, which are a part of the loss.
    step
        Number of the step, for the message.
    """
    if math.isfinite(loss.item()):
        return
    if module := first_in_forward(model, tokens):
        where = f"the output of {module}"
    else:
        wrong = [name for name, value in losses.items() if not value.isfinite()]
        where = f"the auxiliary loss {', '.join(wrong) or 'of no gate'}"
    raise NotFiniteError(f"step {step}: the loss is not finite, beginning with {where}")


def check_gradients(norm: Tensor, model: nn.Module, step: int) -> float:
    """The norm of all gradients as a number; raises `NotFiniteError` where it is not finite."""
    if not math.isfinite(norm):
        where = first_in_gradients(model) or "their sum alone"
        raise NotFiniteError(f"step {step}: gradients are not finite, beginning with {where}")
    return float(norm)


def first_in_forward(model: nn.Module, tokens: Tensor) -> str | None:
    """Name of the first module, in the order of computation, whose output is not finite; None if all are."""
    found: list[str] = []

    def watch(name: str) -> Any:
        def look(_module: nn.Module, _inputs: Any, output: Any) -> None:
            outputs = output if isinstance(output, tuple) else (output,)
            if not found and not all(_is_finite(value) for value in outputs):
                found.append(name)

        return look

    # The innermost of nested modules ends first, so the message names it.
    hooks = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
    try:
        with torch.no_grad():
            model(input_ids=tokens, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def first_in_gradients(model: nn.Module) -> str | None:
    """Name of the last parameter, in the order of computation, whose gradient is not finite.

    Gradients flow backwards, so the first fault is at that parameter.
    """
    wrong = [name for name, p in model.named_parameters() if p.grad is not None and not _is_finite(p.grad)]
    return wrong[-1] if wrong else None


def _is_finite(value: Any) -> bool:
    return not isinstance(value, Tensor) or not value.is_floating_point() or bool(value.isfinite().all())
