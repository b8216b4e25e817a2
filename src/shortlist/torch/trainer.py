"""Gates under the `Trainer` of transformers."""

from typing import Any

from torch import nn
from transformers import TrainerCallback

from shortlist.torch.moe import after_step, set_progress


class GateCallback(TrainerCallback):
    """Tells the gates of a model how far training is, and when the optimizer has stepped.

    Without it annealed gates stay at their beginning, and biases, prices and centroids where they are.
    Auxiliary losses are not its matter: add them in `compute_loss` (`shortlist.torch.auxiliary_losses`).
    """

    def on_step_begin(self, args: Any, state: Any, control: Any, model: nn.Module, **_: Any) -> None:
        """Progress is the share of the steps that were taken."""
        set_progress(model, state.global_step / max(state.max_steps, 1))

    def on_optimizer_step(self, args: Any, state: Any, control: Any, model: nn.Module, **_: Any) -> None:
        """Gates that balance without a loss adjust."""
        after_step(model)
