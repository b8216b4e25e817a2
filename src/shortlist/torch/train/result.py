"""The result of a training run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shortlist.model.tokenizer.tokenizer import Tokenizer
from shortlist.torch.train.config import Config

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Run:
    """A training run and its result.

    Parameters
    ----------
    folder
        Folder with configuration, metrics, checkpoints and plots; after the last step also the model.
    model
        The model after the last step.
    step
        Number of steps taken.
    validation_loss
        The latest validation loss, in nats per token; None where none was measured yet.
    finished
        Whether all steps were taken; otherwise Ctrl-C or SIGTERM stopped the run.
    note
        A note on the result for the user, or None.
    stopped_by
        The signal that stopped the run, or None.
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
