"""Hugging Face transformers in float32, which is PyTorch's fastest type on most processors."""

from collections.abc import Sequence
from pathlib import Path

import torch
import transformers

from shortlist.evaluate.peers.base import SteppingPeer


class Transformers(SteppingPeer):
    settings = "float32, sdpa"

    def __init__(self, path: Path, threads: int):
        torch.set_num_threads(threads)
        self.model = load_float32(path)
        tied = self.model.get_input_embeddings().weight is self.model.get_output_embeddings().weight
        looked_up = 0 if tied else self.model.get_input_embeddings().weight.numel()
        self.bytes_per_token = 4 * (sum(p.numel() for p in self.model.parameters()) - looked_up)

    def reset(self) -> None:
        self.cache = None

    @torch.inference_mode()
    def step(self, tokens: Sequence[int]) -> int:
        output = self.model(
            torch.tensor([list(tokens)]), past_key_values=self.cache, use_cache=True, logits_to_keep=1
        )
        self.cache = output.past_key_values
        return int(output.logits[0, -1].argmax())


def load_float32(path: Path) -> transformers.PreTrainedModel:
    """The model of a GGUF file (dequantized) or of a Hugging Face folder."""
    source = {"pretrained_model_name_or_path": path}
    if path.is_file():
        packed = transformers.GgufConfig(dequantize=True)
        source = {
            "pretrained_model_name_or_path": path.parent,
            "gguf_file": path.name,
            "quantization_config": packed,
        }
    model = transformers.AutoModelForCausalLM.from_pretrained(
        **source, dtype=torch.float32, local_files_only=True
    )
    return model.eval()
