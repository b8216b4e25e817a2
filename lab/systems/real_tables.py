"""Tables of real models and the queries they meet on a text: what the scripts here measure estimators on."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from criteria import print_criteria as print_criteria  # the scripts take it from here

from shortlist import checkpoints
from shortlist.checkpoints.base import Checkpoint
from shortlist.estimators import Estimator, State
from shortlist.measure.recall import BATCH, best_units, head_values, recall_within
from shortlist.measure.tables import Ffn, Head, Tables
from shortlist.model.tokenizer.tokenizer import Tokenizer

__all__ = [
    "BATCH",
    "TEXT",
    "Ffn",
    "Head",
    "RealModel",
    "arguments_of",
    "best_units",
    "ffn_recall",
    "head_recall",
    "head_values",
    "open_model",
    "print_criteria",
    "recall_within",
]

TEXT = Path(__file__).parents[2] / "benchmarks" / "data" / "shakespeare.txt"


class RealModel(Tables):
    """An open checkpoint and a text: its first half to fit to, the second to test on."""

    def __init__(self, checkpoint: Checkpoint, text: str, fit: int, test: int):
        tokenizer = Tokenizer.from_checkpoint(checkpoint)
        middle = len(text) // 2
        first, second = (
            tokenizer.encode(half, add_special=False)[:count]
            for half, count in ((text[:middle], fit), (text[middle:], test))
        )
        super().__init__(checkpoint, tokenizer.encode(""), first, second)

    @property
    def test_text(self) -> tuple[Sequence[int], Sequence[int]]:
        """The tokens to test on, and those that every text starts with."""
        return self._texts[1], self._prefix


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


def ffn_recall(ffn: Ffn, estimator: Estimator) -> float:
    """Share of the top 10 % neurons by size among the top 20 % by estimated gate and up."""
    state = estimator.fit(ffn.table, ffn.fit)
    gate, up = np.split(estimator.score(state, ffn.test).values, 2, axis=1)
    neurons = len(ffn.norms)
    return recall_within(
        ffn.sizes(gate, up), best_units(ffn.true_sizes(ffn.test), neurons // 10), neurons // 5
    )


def head_recall(head: Head, estimator: Estimator, state: State, wanted: np.ndarray, kept: int) -> float:
    """Share of the rows wanted [positions, count] among the best `kept` by estimate."""
    parts = [slice(start, start + BATCH) for start in range(0, len(wanted), BATCH)]
    recalls = [
        recall_within(estimator.score(state, head.test[part]).values, wanted[part], kept) for part in parts
    ]
    return float(np.average(recalls, weights=[len(wanted[part]) for part in parts]))
