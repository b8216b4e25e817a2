"""The language-model head: rows of the vocabulary, and which of them are read.

There is one class. Without an estimator it is dense; `bit_planes` with `certified` makes it exact, `low_rank`
with `confidence` estimated, and any other pair that a recipe names runs too.

Where a model caps its logits, `cap` says so: the cap changes how far apart logits are, never their order, so
that greedy tokens are chosen before it.

A head raises `CheckpointError`, which names the file, where one of its weights or logits is not a finite
number: weights are looked at when it is made, logits where they are computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from shortlist import _native
from shortlist.checkpoints.base import Checkpoint
from shortlist.checkpoints.packing import pack_matrix
from shortlist.errors import UsageError
from shortlist.estimators.base import Estimator, PackedTable, Scores
from shortlist.selectors.base import Selector, Shortlist, best
from shortlist.selectors.distribution import LEFT, distribution
from shortlist.sites.base import Part, Reach, Site, Way
from shortlist.sites.kernels import POLICIES, SCORERS, policy_of, scorer_of

CAP_SLACK = 1e-6
"""Share of the cap that widens capped bounds: far more than rounding can move them."""


def softcap(logits: np.ndarray, cap: float | None) -> np.ndarray:
    """`cap * tanh(logits / cap)`, elementwise and in float32; without a cap the logits as they are."""
    return logits if cap is None else _native.softcap(logits.reshape(-1), cap).reshape(logits.shape)


@dataclass(frozen=True)
class Read:
    """What one query read of the head: rows computed exactly, and bytes in all."""

    rows: int
    bytes: int


class Head:
    """The rows of the vocabulary, read whole or by a shortlist.

    Parameters
    ----------
    rows : _native.Rows
        [vocabulary, width]
    cap : float, optional
        `ModelConfig.logit_cap`.
    estimator, selector : optional
        What decides which rows are read. Left out, all are.
    state : mapping of arrays, optional
        What `estimator.fit` returned. Left out, it is made of the rows, where they suffice (`from_table`).

    Attributes
    ----------
    workers : context manager
        The threads that read the head, for what else is computed of its logits.
    name : {"dense", "estimated", "exact"}
    exact : bool
        Whether every token is the one that the dense head gives.
    bounded : bool
        Whether `bounds` gives an interval that holds every dense logit, always.
    estimate_bytes : int
        Bytes that every query reads before any row.

    Raises
    ------
    UsageError
        The pair does not run at a head, or not at one of this format.
    """

    def __init__(
        self,
        rows: _native.Rows,
        cap: float | None = None,
        estimator: Estimator | None = None,
        selector: Selector | None = None,
        state: Mapping[str, Any] | None = None,
    ):
        self.rows, self.cap = rows, cap
        self.estimator, self.selector = estimator, selector
        self.workers = _native.Workers(rows.threads)
        self._native = _native.Head(rows)
        self.name: Way = "dense"
        self.bounded, self.estimate_bytes = False, 0
        self._scorer: _native.Scorer | None = None
        self._policy: _native.Policy | None = None
        if estimator is None or selector is None:
            return
        if reason := HeadSite.refusal(estimator, selector):
            raise UsageError(f"the head: {reason}")
        if estimator.name == "bit_planes" and rows.format != "q8":
            raise UsageError(
                f"--exact needs a head in 8 bits and this one is {rows.format}: "
                "use --head dense, or --weights q8 with a float checkpoint"
            )
        part = Part(estimator, selector, rows.rows, rows.cols, dict(state or {}))
        self.name = part.way
        self.bounded = part.way == "exact" and estimator.gives == "bound"
        self._scorer, self._policy = scorer_of(part, rows), policy_of(selector)
        if self._scorer is None:
            self._state = part.state or estimator.fit(rows, np.zeros((1, rows.cols), np.float32))
            self.estimate_bytes = estimator.bytes_per_query(rows.rows, rows.cols)
        else:
            self.estimate_bytes = self._scorer.nbytes

    @property
    def exact(self) -> bool:
        """Whether every token is the one that the dense head gives."""
        return self.name != "estimated"

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.rows.row_bytes

    def argmax(self, hidden: np.ndarray) -> tuple[int, Read]:
        """The greedy token for a hidden state float32 [width], the lowest of equals, and what it read."""
        return self.argmax_together(hidden[None])[0]

    def argmax_together(self, hidden: np.ndarray) -> list[tuple[int, Read]]:
        """What `argmax` gives for each of several hidden states, float32 [n, width].

        With native kernels what all read is read once for all. Where the mark is an exact value, a head in 8
        bits reads the upper half of each row on the shortlist first, and the rest only where the row could
        still win.
        """
        if self.estimator is None:
            return [(token, self.read(rows)) for token, _, rows, _ in self._native.dense_argmax(hidden)]
        if self._scorer is None or self._policy is None:
            return [self._winner(each) for each in hidden]
        winners = self._native.argmax(self._scorer, hidden, self._policy)
        return [(token, self.read(rows, upper)) for token, _, rows, upper in winners]

    @property
    def draws(self) -> bool:
        """Whether `draw_together` draws its tokens."""
        return self.estimator is None or self.bounded

    def draw_together(
        self, hidden: np.ndarray, asked: Sequence[_native.Sampling], *, whole: bool = False
    ) -> list[tuple[int, Read]]:
        """A token for each of hidden states float32 [n, width], as `engine.sampling.sample` draws it.

        From bounds, unless there are none or `whole` asks for all rows. Token -1: they do not settle it.
        """
        bounded = self.bounded and not whole
        drawn = _native.sample(self._native, np.ascontiguousarray(hidden), list(asked), bounded)
        return [(token, self.read(rows) if bounded else self._read_all()) for token, rows in drawn]

    def logits(self, hidden: np.ndarray) -> tuple[np.ndarray, Read]:
        """Float32 [vocabulary]: of an exact head all rows, read whole.

        Of an estimated one, estimates hold at most `LEFT` of the probability and the other rows are exact
        (`selectors.distribution`). That share is before a cap, which moves some of the probability from the
        best rows to the others.
        """
        if self.exact:
            return softcap(self._native.dense(hidden), self.cap), self._read_all()
        if self._scorer is not None and self._policy is not None:
            values, rows = self._native.distribution(self._scorer, hidden, self._policy, LEFT)
        else:
            scores = self.scores(hidden)
            selected = self._select(scores, hidden)
            values, rows = distribution(scores, selected, partial(self._exact_rows, hidden), LEFT)
        return softcap(values, self.cap), self.read(rows)

    def logits_together(self, hidden: np.ndarray) -> np.ndarray:
        """All dense logits of each of several hidden states, float32 [n, width]: [n, vocabulary]."""
        return softcap(self._native.dense_together(hidden), self.cap)

    def exact_rows(self, hidden: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Float32 [n]: the same rows of the dense logits, to the last bit."""
        return softcap(self._exact_rows(hidden, indices), self.cap)

    def bounds(self, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(lower, upper), float32 [vocabulary] each: the dense logits always lie between them.

        Only for a head that is `bounded`.
        """
        scores = self.scores(hidden)
        middle, radius = scores.values, scores.margins
        lower, upper = middle - radius, np.add(middle, radius, out=middle)
        if self.cap is None:
            return lower, upper
        slack = np.float32(CAP_SLACK * self.cap)
        return softcap(lower, self.cap) - slack, softcap(upper, self.cap) + slack

    def estimate(self, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """What is known of all logits before rows are read: values, and how far off they may be.

        Float32 [vocabulary] each: the standard deviation of an estimated head, the bound of an exact one;
        None of a dense one. A cap moves both ends of what the estimate allows; the values stay within it.
        """
        if self.estimator is None:
            return None
        if self.bounded:
            lower, upper = self.bounds(hidden)
            return (lower + upper) / 2, (upper - lower) / 2
        scores = self.scores(hidden)
        values, spread = scores.values, scores.reach()
        if self.cap is None:
            return values, spread
        lower, upper = softcap(values - spread, self.cap), softcap(values + spread, self.cap)
        return softcap(values, self.cap), (upper - lower) / 2

    def shortlist(self, hidden: np.ndarray) -> np.ndarray:
        """The rows that a greedy token reads exactly, int32 ascending."""
        if self.estimator is None:
            return np.arange(self.rows.rows, dtype=np.int32)
        if self._scorer is not None and self._policy is not None:
            return self._native.shortlist(self._scorer, hidden, self._policy)
        return self._select(self.scores(hidden), hidden).indices.astype(np.int32)

    def dense(self) -> Head:
        """All rows of the same head: what others are compared with. It shares their memory."""
        return self if self.estimator is None else Head(self.rows, self.cap)

    def read(self, rows: int, upper: int = 0) -> Read:
        """What a query read that computed `rows` rows and looked at the upper planes of `upper` more."""
        listed = rows * self.row_bytes + (upper and upper * self.rows.upper_row_bytes)
        return Read(rows, self.estimate_bytes + listed)

    def _read_all(self) -> Read:
        return Read(self.rows.rows, self.rows.nbytes)

    def _exact_rows(self, hidden: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Before a cap."""
        return self._native.exact_rows(hidden, np.ascontiguousarray(indices, np.int32))

    def scores(self, hidden: np.ndarray) -> Scores:
        """What the estimator says of all rows, before a cap."""
        assert self.estimator is not None
        if self._scorer is not None:
            return Scores(*self._native.scores(self._scorer, hidden))
        return self.estimator.score(self._state, hidden)

    def _select(self, scores: Scores, hidden: np.ndarray) -> Shortlist:
        """What the selector's Python lines choose; the best row by estimate where they choose none."""
        assert self.selector is not None
        exact = partial(self._exact_rows, hidden)
        selected = self.selector.select(scores, exact)
        if selected.indices.size:
            return selected
        first = best(scores.values, 1)
        return Shortlist(first, exact(first), 1)

    def _winner(self, hidden: np.ndarray) -> tuple[int, Read]:
        selected = self._select(self.scores(hidden), hidden)
        token = int(selected.indices[np.argmax(selected.values)])
        return token, self.read(selected.rows_read)


def exact_head(rows: _native.Rows, cap: float | None = None) -> Head:
    """The dense winner, provably: all upper planes, and whole rows where the bound leaves them."""
    from shortlist.estimators import BitPlanes
    from shortlist.selectors import Certified

    return Head(rows, cap, BitPlanes(), Certified())


class HeadSite(Site):
    """The head of one checkpoint, where any estimator that scores rows by the query may run."""

    natively: ClassVar = frozenset((estimator, selector) for estimator in SCORERS for selector in POLICIES)
    in_python: ClassVar = True

    def __init__(self, name: str, checkpoint: Checkpoint):
        super().__init__(name, checkpoint)
        self._tensor = "embedding" if checkpoint.config.tied_head else "head"
        self.units, self.width = checkpoint.tensors[self._tensor].shape

    @classmethod
    def reach(cls, estimator: Estimator, selector: Selector) -> Reach:
        if reason := _NO_ROWS.get(estimator.name):
            return Reach("refused", reason)
        return super().reach(estimator, selector)

    def table(self, weights: str = "") -> PackedTable:
        return pack_matrix(self.checkpoint, self._tensor, "q8" if weights else "", _native.Arena())

    def product(self, query: Any, indices: Any) -> Any:
        return self.table().unpack(np.asarray(indices, np.int32)) @ np.asarray(query, np.float32)

    def unit_bytes(self, weights: str = "") -> float:
        table: Any = self.table(weights)
        return table.row_bytes

    def install(self, part: Part, into: Any) -> Head:
        return Head(into, self.checkpoint.config.logit_cap, part.estimator, part.selector, part.state)


_NO_ROWS = {
    "magnitude": "magnitude scores the inputs of a matrix, not rows of the head: choose low_rank",
    "neighbour": "neighbour guesses from the step before, and texts take turns at the head: choose low_rank",
}
