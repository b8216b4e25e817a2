"""A llama-like model in NumPy whose neurons can be left out: what a shortlist of them costs in perplexity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from shortlist import _native
from shortlist.checkpoints.base import Checkpoint, StoredTensor
from shortlist.measure.teacher_forced import windows

Choose = Callable[[int, np.ndarray], np.ndarray]
"""From a layer and its neurons' sizes [tokens, neurons] to those that are kept, bool of the same shape."""


class MaskedModel:
    """All weights in float32. Takes the place of a `Decoder` in `windows`; `choose` says what is kept.

    Holds for families without norms of query, key or output, as SmolLM2's.
    """

    def __init__(self, checkpoint: Checkpoint):
        self.config = checkpoint.config
        self.weights = {name: _floats(tensor) for name, tensor in checkpoint.tensors.items()}
        self.choose: Choose | None = None

    def new_cache(self, capacity: int) -> None:
        return None

    def forward(self, tokens: np.ndarray, cache: None) -> np.ndarray:
        hidden = self.weights["embedding"][tokens] * np.float32(self.config.embedding_scale)
        for layer in range(self.config.layers):
            hidden = hidden + self._attention(layer, self._norm(hidden, f"layers.{layer}.attention_norm"))
            hidden = hidden + self._ffn(layer, self._norm(hidden, f"layers.{layer}.ffn_norm"))
        return self._norm(hidden, "final_norm")

    def perplexity(self, tokens: Sequence[int], prefix: Sequence[int], choose: Choose | None = None) -> float:
        self.choose = choose
        losses = np.concatenate(list(self._losses(tokens, prefix)))
        return float(np.exp(losses.mean()))

    def _losses(self, tokens: Sequence[int], prefix: Sequence[int]) -> Iterator[np.ndarray]:
        head = self.weights["embedding" if self.config.tied_head else "head"]
        for hidden, targets in windows(self, tokens, prefix):
            logits = hidden @ head.T
            top = logits.max(axis=1)
            sums = np.exp(logits - top[:, None]).sum(axis=1)
            yield top + np.log(sums) - logits[np.arange(len(targets)), targets]

    def _ffn(self, layer: int, x: np.ndarray) -> np.ndarray:
        gate, up, down = (self.weights[f"layers.{layer}.{name}"] for name in ("gate", "up", "down"))
        gated = x @ gate.T
        activations = gated / (1 + np.exp(-gated)) * (x @ up.T)
        if self.choose:
            sizes = np.abs(activations) * np.linalg.norm(down, axis=0)
            activations = np.where(self.choose(layer, sizes), activations, 0)
        return activations @ down.T

    def _attention(self, layer: int, x: np.ndarray) -> np.ndarray:
        config, count = self.config, len(x)
        parts = {name: x @ self.weights[f"layers.{layer}.{name}"].T for name in ("q", "k", "v")}
        q, k, v = (part.reshape(count, -1, config.head_dim).transpose(1, 0, 2) for part in parts.values())
        q, k = self._turned(layer, q), self._turned(layer, k)
        k, v = (np.repeat(part, config.heads // config.kv_heads, axis=0) for part in (k, v))
        scores = q @ k.transpose(0, 2, 1) * np.float32(config.attention_scale)
        scores[:, ~np.tri(count, dtype=bool)] = -np.inf
        shares = np.exp(scores - scores.max(axis=2, keepdims=True))
        shares /= shares.sum(axis=2, keepdims=True)
        return (shares @ v).transpose(1, 0, 2).reshape(count, -1) @ self.weights[f"layers.{layer}.o"].T

    def _turned(self, layer: int, x: np.ndarray) -> np.ndarray:
        """Queries or keys [heads, tokens, head_dim], their pairs turned by the position."""
        angles = np.outer(np.arange(x.shape[1]), self.config.rope_frequencies[layer])
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        a, b = (x[..., 0::2], x[..., 1::2]) if self.config.rope_interleaved else np.split(x, 2, axis=2)
        return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=2)

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        weight = self.weights[name][0] + np.float32(self.config.norm_offset)
        return x / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + self.config.norm_eps) * weight


def _floats(tensor: StoredTensor) -> np.ndarray:
    """Matrices [rows, cols], vectors [1, n]."""
    count, width = (1, *tensor.shape)[-2:]
    rows = _native.Rows.pack(tensor.data, tensor.type, count, width)
    return rows.unpack(np.arange(count, dtype=np.int32))
