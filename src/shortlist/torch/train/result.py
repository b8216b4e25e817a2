"""A training run and what it led to."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shortlist.model.tokenizer.tokenizer import Tokenizer
from shortlist.torch.train.config import Config

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Run:
    """A run and what it led to.

    Parameters
    ----------
    folder
        With the configuration, metrics, checkpoints and plots, and once it is finished the model.
    model
        As of the last step.
    step
        How many steps were taken.
    validation_loss
        The latest, in nats for each token; None where none was measured yet.
    finished
        All steps were taken; otherwise Ctrl-C or SIGTERM stopped it.
    note
        What a user should know of the result, if anything.
    stopped_by
        The signal that stopped it, where one did.
    """

    folder: Path
    config: Config
    model: "PreTrainedModel"
    tokenizer: Tokenizer
    step: int
    validation_loss: float | None
    finished: bool
    note: str | None = None
    stopped_by: int | None = None
