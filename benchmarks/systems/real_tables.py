"""Tables of real models and the queries they meet on a text: what the scripts here measure estimators on."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shortlist import _native, checkpoints
from shortlist.checkpoints.base import Checkpoint
from shortlist.estimators import Estimator, State
from shortlist.evaluate.teacher_forced import windows
from shortlist.models.decoder import Decoder
from shortlist.models.tokenizer import Tokenizer

TEXT = Path(__file__).parents[1] / "data" / "shakespeare.txt"
BATCH = 64  # positions that are scored at once


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
        if self.activation == "silu":
            return up * gate / (1 + np.exp(-gate))
        return up * 0.5 * gate * (1 + np.tanh(0.7978845608 * (gate + 0.044715 * gate**3)))

    def sizes(self, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        """|activation| times row norm of down."""
        return np.abs(self.activations(gate, up)) * self.norms

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

    @property
    def test_text(self) -> tuple[list[int], list[int]]:
        """The tokens to test on, and those that every text starts with."""
        return self._parts[1], self.tokenizer.encode("")

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
            matrices["down"],
            np.linalg.norm(matrices["down"], axis=0),
            sum(rows.nbytes for rows in packed.values()),
            config.activation,
            *self._hidden(Decoder(cut)),
        )

    def _pack(self, name: str) -> _native.Rows:
        tensor = self.checkpoint.tensors[name]
        rows, cols = tensor.shape
        return _native.Rows.pack(tensor.data, tensor.type, rows, cols)

    def _hidden(self, decoder: Decoder) -> list[np.ndarray]:
        prefix = self.tokenizer.encode("")
        return [
            np.concatenate([hidden for hidden, _ in windows(decoder, tokens, prefix)])
            for tokens in self._parts
        ]


def arguments_of(doc: str | None, model: str) -> argparse.Namespace:
    """`--model` and `--text`, as every script here takes them."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default=model, help="one that was pulled, or its file")
    parser.add_argument("--text", type=Path, default=TEXT, help="its halves are fitted to and tested on")
    return parser.parse_args()


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


def ffn_recall(ffn: Ffn, estimator: Estimator) -> float:
    """Share of the top 10 % neurons by size among the top 20 % by estimated gate and up."""
    state = estimator.fit(ffn.table, ffn.fit)
    gate, up = np.split(estimator.estimate(state, ffn.test).values, 2, axis=1)
    neurons = len(ffn.norms)
    return recall_within(
        ffn.sizes(gate, up), best_units(ffn.true_sizes(ffn.test), neurons // 10), neurons // 5
    )


def head_recall(head: Head, estimator: Estimator, state: State, wanted: np.ndarray, kept: int) -> float:
    """Share of the rows wanted [positions, count] among the best `kept` by estimate."""
    parts = [slice(start, start + BATCH) for start in range(0, len(wanted), BATCH)]
    recalls = [
        recall_within(estimator.estimate(state, head.test[part]).values, wanted[part], kept) for part in parts
    ]
    return float(np.average(recalls, weights=[len(wanted[part]) for part in parts]))


def print_criteria(criteria: Sequence[tuple[str, float, bool, str]]) -> bool:
    """Print each measured value beside its limit; True where all limits are met."""
    print("\n| | measured | limit |\n| --- | ---: | ---: |")
    for name, value, met, limit in criteria:
        print(f"| {name} | {value:.4f}{'' if met else ' (missed)'} | {limit} |")
    return all(met for _, _, met, _ in criteria)
