"""The training loop: steps on a model, its optimizer and a text."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shortlist.errors import UsageError
from shortlist.torch import after_step, auxiliary_losses, set_progress
from shortlist.torch.train.config import Config
from shortlist.torch.train.model import loss_weights
from shortlist.torch.train.not_finite import check_gradients, check_loss
from shortlist.torch.train.text import Windows, in_order

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Step:
    """The measurements of one step.

    Parameters
    ----------
    loss
        Mean negative log-likelihood of a token, in nats.
    losses
        Auxiliary losses by name, summed over layers and not weighted.
    gradient_norm
        Norm of the gradient before it is clipped.
    learning_rate
        Learning rate of the step.
    """

    loss: float
    losses: dict[str, float]
    gradient_norm: float
    learning_rate: float


class Loop:
    """Trains a model. Its state is the model's, the optimizer's, PyTorch's generators' and `done`.

    Parameters
    ----------
    config
        The configuration of the run.
    model
        Trained in place, on the configured device.
    train_tokens, validation_tokens : int64 [tokens]
        The text.

    Attributes
    ----------
    done : int
        Number of steps taken.
    optimizer : torch.optim.AdamW
    """

    def __init__(
        self,
        config: Config,
        model: "PreTrainedModel",
        train_tokens: np.ndarray,
        validation_tokens: np.ndarray,
    ):
        from transformers import get_scheduler

        self.config = config.training
        self.weights = loss_weights(model, config.moe)
        self.device = _device(self.config.device)
        self.model = model.to(self.device)  # pyright: ignore[reportArgumentType]
        self.optimizer = torch.optim.AdamW(
            _groups(model, self.config.weight_decay), self.config.learning_rate
        )
        schedule: Any = get_scheduler(
            self.config.schedule, self.optimizer, self.config.warmup, self.config.steps
        )
        self._rate = schedule.lr_lambdas[0]  # depends on the step only, so there is no state to resume
        self._windows = Windows(train_tokens, self.config.context, self.config.seed)
        self._validation = in_order(validation_tokens, self.config.context, self.config.validation_tokens)
        self.done = 0

    def step(self) -> Step:
        """Take one step.

        Raises
        ------
        NotFiniteError
            The loss or a gradient is not finite. The weights are unchanged.
        """
        self.model.train()
        set_progress(self.model, self.done / self.config.steps)
        learning_rate = self.config.learning_rate * self._rate(self.done)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        tokens = self._to_device(self._windows.batch(self.done, self.config.batch))
        loss = self._loss(tokens)
        losses = auxiliary_losses(self.model)
        total = loss + sum(weight * losses[name] for name, weight in self.weights.items())
        check_loss(total, self.model, tokens[:, :-1], losses, self.done + 1)
        self.optimizer.zero_grad()
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        norm = check_gradients(norm, self.model, self.done + 1)
        self.optimizer.step()
        after_step(self.model)
        self.done += 1
        return Step(loss.item(), {name: value.item() for name, value in losses.items()}, norm, learning_rate)

    def validate(self) -> float:
        """Mean negative log-likelihood of the validation text's tokens. Training is not affected."""
        self.model.eval()
        devices = range(torch.cuda.device_count()) if self.device.type == "cuda" else ()
        total = 0.0
        with torch.no_grad(), torch.random.fork_rng(devices):
            for start in range(0, len(self._validation), self.config.batch):
                batch = self._validation[start : start + self.config.batch]
                total += self._loss(self._to_device(batch)).item() * len(batch)
        return total / len(self._validation)

    def _loss(self, tokens: Tensor) -> Tensor:
        """The loss on tokens [batch, context + 1]."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            logits = self.model(input_ids=tokens[:, :-1], use_cache=False).logits
        return F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())

    def _to_device(self, tokens: np.ndarray) -> Tensor:
        return torch.from_numpy(tokens).to(self.device)


def _groups(model: nn.Module, decay: float) -> list[dict]:
    """Parameter groups of the optimizer: matrices with weight decay; norms and biases without."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError):  # AssertionError: PyTorch without CUDA
        raise UsageError(f"[training] device {name!r} is not here: name cpu, or leave it out") from None
