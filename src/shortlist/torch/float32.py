"""Loads dense models of any checkpoint into `transformers`, in float32."""

from pathlib import Path
from typing import Any

import torch
import transformers


def load_float32(path: Path) -> Any:
    """The model of a GGUF file (dequantized) or of a Hugging Face folder."""
    options: dict[str, Any] = {"dtype": torch.float32, "local_files_only": True}
    if path.is_file():
        options |= {"gguf_file": path.name, "quantization_config": transformers.GgufConfig(dequantize=True)}
        path = path.parent
    return transformers.AutoModelForCausalLM.from_pretrained(path, **options).eval()
