"""Distills the dense model into a converted one by gradient steps, within a budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from shortlist.errors import UsageError
from shortlist.torch import after_step, auxiliary_losses, set_progress
from shortlist.torch.train.not_finite import check_gradients, check_loss

BATCH = 2  # sequences in a step
RATE, WARM_UP = 2e-4, 0.05
BALANCE = 0.01  # weight of the loss that keeps experts equally busy


@dataclass(frozen=True)
class Budget:
    """Limits of healing in minutes and tokens; healing ends when either is used up.

    Raises
    ------
    UsageError
        There is no limit, or a limit is negative or not a number.
    """

    minutes: float | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        if self.minutes is None and self.tokens is None:
            raise UsageError("healing needs a budget: give minutes or tokens")
        if not ((self.minutes or 0) >= 0 and (self.tokens or 0) >= 0):  # refuses nan, too
            raise UsageError("a budget cannot be negative: 0 leaves healing out")

    def used(self, started: float, tokens: int) -> float:
        """The share of the budget that is used, from 0 to 1; `started` is a value of `perf_counter`."""
        shares = [0.0]
        if self.minutes is not None:
            shares.append((perf_counter() - started) / 60 / self.minutes if self.minutes else 1.0)
        if self.tokens is not None:
            shares.append(tokens / self.tokens if self.tokens else 1.0)
        return min(1.0, max(shares))


@dataclass(frozen=True)
class Healed:
    """The result of healing: time and tokens used, and the loss of each step."""

    tokens: int
    seconds: float
    losses: tuple[float, ...]


def distill(
    model: Any,
    dense: Any,
    ids: Tensor,
    parameters: list[torch.nn.Parameter],
    used: Callable[[int], float],
    *,
    text_weight: float = 0.0,
    rate: float = RATE,
    seed: int = 0,
    report: Callable[[float], None] = lambda _: None,
) -> Healed:
    """Train `parameters` of a converted model on the dense model's predictions; gates become sparse.

    Parameters
    ----------
    ids : int64 [sequences, length]
        The text; each epoch reads it in another order.
    used
        Maps the number of tokens read so far to the used share of the budget. The learning rate falls to
        zero with it.
    text_weight
        Weight of the loss on the text itself; the divergence from the dense model has the rest.

    Raises
    ------
    NotFiniteError
        The loss or a gradient is not finite. The weights are those before that step.
    """
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    order = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    started, tokens, history = perf_counter(), 0, []
    queue = torch.empty(0, dtype=torch.int64)
    first = used(0)  # refitting may have used a part of the budget
    while (spent := used(tokens)) < 1:
        share = (spent - first) / (1 - first)
        if len(queue) == 0:
            queue = torch.randperm(len(ids), generator=order)
        batch, queue = ids[queue[:BATCH]], queue[BATCH:]
        optimizer.param_groups[0]["lr"] = rate * min(1.0, (share + 0.01) / WARM_UP) * (1 - share)
        set_progress(model, share)
        loss = healing_loss(model, dense, batch, text_weight)
        losses = auxiliary_losses(model)
        total = loss + BALANCE * losses.get("load_balance", 0.0)
        check_loss(total, model, batch, losses, len(history) + 1)
        optimizer.zero_grad()
        total.backward()
        check_gradients(torch.nn.utils.clip_grad_norm_(parameters, 1.0), model, len(history) + 1)
        optimizer.step()
        after_step(model)
        tokens += batch.numel()
        history.append(float(loss.detach()))
        report(spent)
    set_progress(model, 1.0)
    return Healed(tokens, perf_counter() - started, tuple(history))


def healing_loss(model: Any, dense: Any, ids: Tensor, text_weight: float) -> Tensor:
    """Weighted sum of the divergence from the dense model and the loss on the text, in nats per token."""
    logs = F.log_softmax(model(ids, use_cache=False).logits.flatten(0, 1), dim=-1)
    loss = logs.new_zeros(())
    if text_weight < 1:
        with torch.no_grad():
            wanted = F.log_softmax(dense(ids, use_cache=False).logits.flatten(0, 1), dim=-1)
        loss = loss + (1 - text_weight) * F.kl_div(logs, wanted, reduction="batchmean", log_target=True)
    if text_weight > 0:
        following = logs.unflatten(0, ids.shape)[:, :-1]
        loss = loss + text_weight * F.nll_loss(following.flatten(0, 1), ids[:, 1:].flatten())
    return loss
