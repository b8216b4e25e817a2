"""The tables of a real model that are worth a shortlist, and the queries they meet on a text."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from shortlist import _native
from shortlist.checkpoints.base import Checkpoint
from shortlist.measure.teacher_forced import windows
from shortlist.model.decoder import Decoder


def _silu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(0.5 * x))  # x times the sigmoid, without overflow


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3)))


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


ACTIVATIONS = {
    "silu": _silu,
    "gelu_tanh": _gelu_tanh,
    "relu": _relu,
    "relu2": lambda x: _relu(x) ** 2,
}
"""By the names of `ModelConfig.activation`."""


@dataclass(frozen=True)
class Head:
    """The rows of a head, and final hidden states to fit to and to test on, float32 [positions, width]."""

    rows: _native.Rows
    fit: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Ffn:
    """One gated feed-forward layer, float32, and inputs to fit to and to test on.

    `gate` and `up` are [neurons, width], `down` is [width, neurons], `norms` [neurons] its columns' lengths.
    """

    layer: int
    gate: np.ndarray
    up: np.ndarray
    down: np.ndarray
    norms: np.ndarray
    nbytes: int
    activation: str
    fit: np.ndarray
    test: np.ndarray

    @property
    def table(self) -> np.ndarray:
        """Gate over up, [2 neurons, width]: what an estimator of the layer is fitted to."""
        return np.concatenate([self.gate, self.up])

    def activations(self, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        """The inputs of down, for values of gate and up of the same shape."""
        return up * ACTIVATIONS[self.activation](gate)

    def sizes(self, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        """|activation| times row norm of down."""
        return np.abs(self.activations(gate, up)) * self.norms

    def true_sizes(self, inputs: np.ndarray) -> np.ndarray:
        """The same for exact gate and up, of inputs [n, width]."""
        return self.sizes(inputs @ self.gate.T, inputs @ self.up.T)


class Tables:
    """The tables of an open checkpoint, and the queries that they meet on two texts.

    Parameters
    ----------
    checkpoint : Checkpoint
    prefix : sequence of int
        The tokens that every text starts with: `tokenizer.encode("")`.
    fit, test : sequence of int
        Tokens of the text to fit to, and of the text to test on.
    threads : int, optional
        As for `Decoder`.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        prefix: Sequence[int],
        fit: Sequence[int],
        test: Sequence[int],
        threads: int | None = None,
    ):
        self.checkpoint = checkpoint
        self._threads = threads
        self._prefix = prefix
        self._texts = (fit, test)

    @property
    def layers(self) -> int:
        return self.checkpoint.config.layers

    def head(self, decoder: Decoder | None = None) -> Head:
        """The head and the final hidden states, of the decoder of the checkpoint where there is one."""
        decoder = decoder or Decoder(self.checkpoint, threads=self._threads)
        return Head(decoder.head_rows, *self._hidden(decoder))

    def ffn(self, layer: int) -> Ffn:
        """A feed-forward layer with gates, and the inputs that it has in the model.

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
            rope_scales=config.rope_scales[: layer + 1],
        )
        cut.release = lambda name, part=None: None  # what is zero lies in no file
        names = {name: f"layers.{layer}.{name}" for name in ("gate", "up", "down")}
        packed = {name: self._pack(stored) for name, stored in names.items()}
        matrices = {name: rows.unpack(np.arange(rows.rows, dtype=np.int32)) for name, rows in packed.items()}
        return Ffn(
            layer,
            matrices["gate"],
            matrices["up"],
            matrices["down"],
            np.linalg.norm(matrices["down"], axis=0),
            sum(rows.nbytes for rows in packed.values()),
            config.activation,
            *self._hidden(Decoder(cut, threads=self._threads)),
        )

    def _pack(self, name: str) -> _native.Rows:
        tensor = self.checkpoint.tensors[name]
        rows, cols = tensor.shape
        return _native.Rows.pack(tensor.data, tensor.type, rows, cols)

    def _hidden(self, decoder: Decoder) -> list[np.ndarray]:
        return [
            np.concatenate([hidden for hidden, _ in windows(decoder, tokens, self._prefix)])
            for tokens in self._texts
        ]
