"""A callback for the `Trainer` of transformers, which trains gates."""

from typing import Any

from torch import nn
from transformers import TrainerCallback

from shortlist.torch.moe import after_step, set_progress


class GateCallback(TrainerCallback):
    """Tells the gates of a model the progress of training, and when the optimizer has stepped.

    Without it annealed gates keep their initial temperature, and biases, prices and centroids do not change.
    It adds no auxiliary losses: add them in `compute_loss` (`shortlist.torch.auxiliary_losses`).
    """

    def on_step_begin(self, args: Any, state: Any, control: Any, model: nn.Module, **_: Any) -> None:
        """Set the progress: the share of the steps that were taken."""
        set_progress(model, state.global_step / max(state.max_steps, 1))

    def on_optimizer_step(self, args: Any, state: Any, control: Any, model: nn.Module, **_: Any) -> None:
        """Let gates that balance without a loss adjust."""
        after_step(model)
