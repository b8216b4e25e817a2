"""Loads models whose experts were quantized when they were saved."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from shortlist.errors import CheckpointError, UsageError
from shortlist.torch.quantized_experts import METHOD

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_quantized(folder: str | Path) -> "PreTrainedModel":
    """Load a causal language model that `save_pretrained` wrote after `adopt` and `quantize_experts`.

    Its mixture layers are `MoE` with `QuantizedExperts`. The native runtime and other programs refuse such a
    folder.

    Raises
    ------
    CheckpointError
        The folder holds no model with quantized experts, or is damaged.
    """
    from transformers import AutoModelForCausalLM

    from shortlist.torch import quantized_loader  # noqa: F401  # makes the method known

    folder = Path(folder)
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder / 'config.json'} cannot be read ({error}): name a model's folder"
        ) from None
    if (settings.get("quantization_config") or {}).get("quant_method") != METHOD:
        raise CheckpointError(
            f"{folder} has no experts that quantize_experts made: load it with transformers"
        )
    try:
        return AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    except UsageError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    except RuntimeError:
        raise CheckpointError(f"{folder}: its tensors do not fit its config.json: save it again") from None
