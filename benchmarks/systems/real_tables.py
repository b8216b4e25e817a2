"""Tables of real models and the queries they meet on a text: what the scripts here measure estimators on."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shortlist import _native, checkpoints
from shortlist.checkpoints.base import Checkpoint
from shortlist.evaluate.teacher_forced import windows
from shortlist.models.decoder import Decoder
from shortlist.models.tokenizer import Tokenizer

TEXT = Path(__file__).parents[1] / "data" / "shakespeare.txt"


@dataclass(frozen=True)
class Head:
    """The rows of a head, and final hidden states to fit to and to test on, float32 [positions, width]."""

    rows: _native.Rows
    fit: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Ffn:
    """One gated feed-forward layer, float32, and inputs to fit to and to test on.

    `gate` and `up` are [neurons, width]; `norms` [neurons] are the lengths of the columns of down.
    """

    layer: int
    gate: np.ndarray
    up: np.ndarray
    norms: np.ndarray
    nbytes: int
    activation: str
    fit: np.ndarray
    test: np.ndarray

    def sizes(self, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        """|activation| times row norm of down, for values of gate and up of the same shape."""
        if self.activation == "silu":
            activated = gate / (1 + np.exp(-gate))
        else:
            activated = 0.5 * gate * (1 + np.tanh(0.7978845608 * (gate + 0.044715 * gate**3)))
        return np.abs(activated * up) * self.norms

    def true_sizes(self, inputs: np.ndarray) -> np.ndarray:
        """The same for exact gate and up, of inputs [n, width]."""
        return self.sizes(inputs @ self.gate.T, inputs @ self.up.T)


class RealModel:
    """An open checkpoint and a text in its tokens: the first half to fit to, the second to test on."""

    def __init__(self, checkpoint: Checkpoint, text: str, fit: int, test: int):
        self.checkpoint = checkpoint
        self.tokenizer = Tokenizer.from_checkpoint(checkpoint)
        middle = len(text) // 2
        self._parts = [
            self.tokenizer.encode(half, add_special=False)[:count]
            for half, count in ((text[:middle], fit), (text[middle:], test))
        ]

    @property
    def layers(self) -> int:
        return self.checkpoint.config.layers

    def head(self) -> Head:
        decoder = Decoder(self.checkpoint)
        return Head(decoder.head_rows, *self._hidden(decoder))

    def ffn(self, layer: int) -> Ffn:
        """The feed-forward layer, with the inputs that it has in the model.

        A decoder that ends with this layer, whose down matrix is zero and whose feed-forward norm stands
        for the final norm, gives just these as its hidden states.
        """
        config, tensors = self.checkpoint.config, dict(self.checkpoint.tensors)
        down = tensors[f"layers.{layer}.down"]
        tensors[f"layers.{layer}.down"] = replace(down, data=np.zeros_like(down.data))
        tensors["final_norm"] = tensors[f"layers.{layer}.ffn_norm"]
        cut = copy.copy(self.checkpoint)
        cut.tensors = tensors
        cut.config = replace(
            config,
            layers=layer + 1,
            windows=config.windows[: layer + 1],
            rope_frequencies=config.rope_frequencies[: layer + 1],
        )
        cut.release = lambda name, part=None: None  # what is zero lies in no file
        names = {name: f"layers.{layer}.{name}" for name in ("gate", "up", "down")}
        packed = {name: self._pack(stored) for name, stored in names.items()}
        matrices = {name: rows.unpack(np.arange(rows.rows, dtype=np.int32)) for name, rows in packed.items()}
        return Ffn(
            layer,
            matrices["gate"],
            matrices["up"],
            np.linalg.norm(matrices["down"], axis=0),
            sum(rows.nbytes for rows in packed.values()),
            config.activation,
            *self._hidden(Decoder(cut)),
        )

    def _pack(self, name: str) -> _native.Rows:
        tensor = self.checkpoint.tensors[name]
        return _native.Rows.pack(tensor.data, tensor.type, *tensor.shape)

    def _hidden(self, decoder: Decoder) -> list[np.ndarray]:
        prefix = self.tokenizer.encode("")
        return [
            np.concatenate([hidden for hidden, _ in windows(decoder, tokens, prefix)])
            for tokens in self._parts
        ]


@contextmanager
def open_model(name: str, text: Path = TEXT, fit: int = 4096, test: int = 512) -> Iterator[RealModel]:
    """A model that was pulled, or its file, with so many positions of the text."""
    with checkpoints.open_checkpoint(checkpoints.resolve(name)) as checkpoint:
        yield RealModel(checkpoint, text.read_text(encoding="utf-8"), fit, test)


def head_values(head: Head, queries: np.ndarray) -> np.ndarray:
    """Exact values of all rows, float32 [queries, rows], as the decoder computes them."""
    dense = _native.Head(head.rows)
    return np.stack([dense.dense(query) for query in queries])


def recall_within(estimated: np.ndarray, wanted: np.ndarray, kept: int) -> float:
    """Mean share of the units wanted [queries, count] that are among the best `kept` by estimate."""
    found = np.argpartition(-estimated, kept - 1, axis=1)[:, :kept]
    return float(np.mean([np.isin(w, f).mean() for w, f in zip(wanted, found, strict=True)]))


def best_units(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the best `count` units of each query, the best first."""
    some = np.argpartition(-values, count - 1, axis=1)[:, :count]
    return np.take_along_axis(some, np.argsort(-np.take_along_axis(values, some, 1), axis=1), 1)
