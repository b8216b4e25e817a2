"""Hugging Face transformers in float32, PyTorch's fastest type on most CPUs."""

from collections.abc import Sequence
from pathlib import Path

import torch

from shortlist.peers.base import SteppingPeer
from shortlist.torch.float32 import load_float32


class Transformers(SteppingPeer):
    settings = "float32, sdpa"

    def __init__(self, path: Path, threads: int):
        torch.set_num_threads(threads)
        self.model = load_float32(path)
        weights = sum(parameter.numel() for parameter in self.model.parameters())
        if not self.model.config.tie_word_embeddings:
            weights -= self.model.get_input_embeddings().weight.numel()  # a token reads one row
        self.bytes_per_token = 4 * weights

    def reset(self) -> None:
        self.cache = None

    @torch.inference_mode()
    def step(self, tokens: Sequence[int]) -> int:
        output = self.model(
            torch.tensor([list(tokens)]), past_key_values=self.cache, use_cache=True, logits_to_keep=1
        )
        self.cache = output.past_key_values
        return int(output.logits[0, -1].argmax())
