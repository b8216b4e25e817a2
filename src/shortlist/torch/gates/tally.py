"""Sums that a gate collects between two steps of the optimizer."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from shortlist.torch import ranks


class Tally:
    """Sums over all forward passes between two steps of the optimizer, and over all processes.

    The sums are no buffers: DistributedDataParallel would overwrite them with those of the first process, and
    a checkpoint needs no sums of an unfinished step.

    Parameters
    ----------
    owner
        Name of the gate, for the warning.
    amounts
        Zeros of the shape and type of each sum, by name.
    """

    def __init__(self, owner: str, **amounts: Tensor):
        self._owner = owner
        self._amounts = amounts | {
            "tokens": torch.zeros((), dtype=torch.int64),
            "wrong": torch.zeros((), dtype=torch.int64),
        }
        self._warned = False

    def __getitem__(self, name: str) -> Tensor:
        return self._amounts[name]

    def add(self, seen: Tensor, **amounts: Tensor) -> None:
        """Count a forward pass once; a recomputation by gradient checkpointing is not counted.

        Parameters
        ----------
        seen : float [tokens, ...]
            States or scores of the pass. If they are not finite, the step is skipped.
        amounts
            Values to add, by name.
        """
        if recomputing():
            return
        amounts |= {
            "tokens": torch.full((), len(seen), device=seen.device),
            "wrong": (~seen.detach().isfinite().all()).long(),
        }
        for name, amount in amounts.items():
            self._amounts[name].add_(amount.detach())

    def take(self, group: Any = None) -> dict[str, Tensor] | None:
        """Sum over all processes since the last step, and start again from zero.

        Returns
        -------
        dict or None
            None where no token was seen, or a state was not finite; the first time with a warning.
        """
        sums = {name: ranks.sum_over(amount, group) for name, amount in self._amounts.items()}
        for amount in self._amounts.values():
            amount.zero_()
        if not sums["tokens"]:
            return None
        if sums.pop("wrong"):
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"{self._owner}: a step whose numbers are not finite is left out of its balancing, and "
                    "so will be others of this kind, without a word",
                    stacklevel=2,
                )
            return None
        return sums

    def apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Move the sums to the device to which a module's `fn` moves its tensors. They keep their types."""
        for name, amount in self._amounts.items():
            moved = fn(amount)
            if moved.device == amount.device:
                continue
            fresh = "meta" in (moved.device.type, amount.device.type)  # nothing was counted there
            self._amounts[name] = (
                torch.zeros_like(amount, device=moved.device) if fresh else amount.to(moved.device)
            )


def recomputing() -> bool:
    """Whether this forward pass runs within a backward pass: a recomputation by gradient checkpointing."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1  # pyright: ignore[reportAttributeAccessIssue]
