"""The language-model head: dense, estimated (low rank + confidence) or exact (bit planes + bound).

Where a model caps its logits, `cap` says so: it changes how far apart they are, never their order, so that
greedy tokens are chosen before it.

Every head raises `CheckpointError`, which names the file, where a weight of it or a logit is not a finite
number: weights are looked at when a head is made, logits where they are computed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shortlist import _native
from shortlist.errors import UsageError
from shortlist.estimators.int8_codes import GROUP
from shortlist.selectors import Confidence
from shortlist.selectors.distribution import LEFT

CAP_SLACK = 1e-6
"""Of the cap: far more than rounding can put a bound on the wrong side of what it bounds."""


def softcap(logits: np.ndarray, cap: float | None) -> np.ndarray:
    """`cap * tanh(logits / cap)`, elementwise and in float32; without a cap the logits as they are."""
    return logits if cap is None else np.float32(cap) * np.tanh(logits / np.float32(cap))


@dataclass(frozen=True)
class Read:
    """What one query read of the head: rows computed exactly, and bytes in all."""

    rows: int
    bytes: int


class DenseHead:
    """Every row, every time: the reference of the others.

    Parameters
    ----------
    rows : _native.Rows
        [vocabulary, width]
    cap : float, optional
        Of `ModelConfig.logit_cap`.

    Attributes
    ----------
    workers : context manager
        The threads that read the head, for what else is computed of its logits.
    """

    name = "dense"

    def __init__(self, rows: _native.Rows, cap: float | None = None):
        self.rows, self._cap = rows, cap
        self.workers = _native.Workers(rows.threads)
        self._native = _native.Head(rows)

    def argmax(self, hidden: np.ndarray) -> tuple[int, Read]:
        """The greedy token, ties to the lowest, for a hidden state float32 [width]."""
        return self.argmax_together(hidden[None])[0]

    def argmax_together(self, hidden: np.ndarray) -> list[tuple[int, Read]]:
        """What `argmax` gives for each of several hidden states, float32 [n, width], the rows read once."""
        return [(token, self._read_all()) for token, *_ in self._native.dense_argmax(hidden)]

    @property
    def row_bytes(self) -> int:
        """Of one row."""
        return self.rows.row_bytes

    def logits(self, hidden: np.ndarray) -> tuple[np.ndarray, Read]:
        """Float32 [vocabulary]."""
        return softcap(self._native.dense(hidden), self._cap), self._read_all()

    def exact_rows(self, hidden: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Float32 [n]: the same rows of `logits`, to the last bit."""
        values = self._native.exact_rows(hidden, np.ascontiguousarray(indices, np.int32))
        return softcap(values, self._cap)

    def logits_together(self, hidden: np.ndarray) -> np.ndarray:
        """What `logits` gives for each of several hidden states, float32 [n, width]: [n, vocabulary]."""
        return softcap(self._native.dense_together(hidden), self._cap)

    def _read_all(self) -> Read:
        return Read(self.rows.rows, self.rows.nbytes)


class EstimatedHead:
    """Rows that a low-rank estimate with a confidence bound leaves.

    The fused twin of `estimators.low_rank` and `selectors.confidence`.

    Parameters
    ----------
    rows : _native.Rows
        [vocabulary, width]
    state : mapping of arrays
        What `LowRank.fit` returned.
    selector : Confidence
    cap : float, optional
        Of `ModelConfig.logit_cap`.
    """

    name = "estimated"

    def __init__(
        self,
        rows: _native.Rows,
        state: Mapping[str, np.ndarray],
        selector: Confidence,
        cap: float | None = None,
    ):
        self.rows, self._cap = rows, cap
        self.workers = _native.Workers(rows.threads)
        self._limits = (selector.sigma, selector.most or rows.rows, selector.probes)
        self._head = _native.Head(rows)
        width = rows.cols
        # Float16 halves what the projection costs per token and adds far less error than the int8 codes.
        projection = np.ascontiguousarray(state["projection"], np.float16).view(np.uint8).reshape(-1)
        self._residual = np.ascontiguousarray(state["residual"], np.float32)
        self._low_rank = _native.LowRank(
            _native.Rows.pack(projection, "F16", width, width), _codes(state), self._residual
        )

    @property
    def estimate_bytes(self) -> int:
        """Bytes that every query reads before any row."""
        return self._low_rank.nbytes

    @property
    def row_bytes(self) -> int:
        """Of one row."""
        return self.rows.row_bytes

    def argmax(self, hidden: np.ndarray) -> tuple[int, Read]:
        """The greedy token among the shortlist.

        Of a head in 8 bits, the upper half of each row on the shortlist is read first, and the rest only
        where the row could still win. Where the shortlist is of all rows, that is what the exact head does.
        """
        return self.argmax_together(hidden[None])[0]

    def argmax_together(self, hidden: np.ndarray) -> list[tuple[int, Read]]:
        """What `argmax` gives for each of several hidden states, float32 [n, width].

        The copy that is estimated from is read once for all; so are all rows, for those that need all.
        """
        winners = self._low_rank.argmax(self._head, hidden, *self._limits)
        return [(token, self._read(rows, upper)) for token, _, rows, upper in winners]

    def logits(self, hidden: np.ndarray) -> tuple[np.ndarray, Read]:
        """Float32 [vocabulary]: estimates hold at most `LEFT` of the probability, the other rows are exact.

        The fused twin of `selectors.distribution`, which says how. That share is before a cap, which moves
        some of the probability from the best rows to the others.
        """
        values, rows = self._low_rank.distribution(self._head, hidden, *self._limits, LEFT)
        return softcap(values, self._cap), self._read(rows)

    def exact_rows(self, hidden: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Float32 [n], bit-identical to the same rows of `DenseHead.logits`."""
        values = self._head.exact_rows(hidden, np.ascontiguousarray(indices, np.int32))
        return softcap(values, self._cap)

    def estimate(self, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(values, spread) of all rows, float32 [vocabulary] each.

        A cap moves both ends of what a spread allows; the values stay within it.
        """
        values, spread = self._low_rank.estimate(self._head, hidden)
        if self._cap is None:
            return values, spread
        lower, upper = softcap(values - spread, self._cap), softcap(values + spread, self._cap)
        return softcap(values, self._cap), (upper - lower) / 2

    def shortlist(self, hidden: np.ndarray) -> np.ndarray:
        """The rows read exactly, int32 ascending."""
        return self._low_rank.shortlist(self._head, hidden, *self._limits)[0]

    def _read(self, rows: int, upper: int = 0) -> Read:
        read = rows * self.rows.row_bytes + upper * self.rows.upper_row_bytes
        return Read(rows, self.estimate_bytes + read)


def _codes(state: Mapping[str, np.ndarray]) -> _native.Codes:
    """The coordinates of the rows, whole groups of 32."""
    codes, scales = (np.ascontiguousarray(state[name]) for name in ("codes", "scales"))
    codes = np.pad(codes, ((0, 0), (0, -codes.shape[1] % GROUP)))
    nothing = np.empty((len(codes), 0))
    trailing = np.ascontiguousarray(state.get("trailing", nothing), np.uint8)
    trailing_scales = np.ascontiguousarray(state.get("trailing_scales", nothing), np.float16)
    return _native.Codes(codes, scales.view(np.uint16), trailing, trailing_scales.view(np.uint16))


class ExactHead:
    """The dense winner, provably: all upper planes, and the lower planes of the rows that the bound leaves.

    Parameters
    ----------
    rows : _native.Rows
        [vocabulary, width], 8-bit.
    cap : float, optional
        Of `ModelConfig.logit_cap`.

    Raises
    ------
    UsageError
        The head is stored in another format.
    """

    name = "exact"

    def __init__(self, rows: _native.Rows, cap: float | None = None):
        if rows.format != "q8":
            raise UsageError(
                f"--exact needs a head in 8 bits and this one is {rows.format}: "
                "use --head dense, or --weights q8 with a float checkpoint"
            )
        self.rows, self._cap = rows, cap
        self.workers = _native.Workers(rows.threads)
        self._native = _native.Head(rows)
        self.upper_bytes = rows.upper_row_bytes * rows.rows
        self.row_bytes = rows.row_bytes

    def argmax(self, hidden: np.ndarray) -> tuple[int, Read]:
        """The token that `DenseHead.argmax` gives."""
        return self.argmax_together(hidden[None])[0]

    def argmax_together(self, hidden: np.ndarray) -> list[tuple[int, Read]]:
        """What `argmax` gives for each of several hidden states, float32 [n, width], one plane read once."""
        return [(token, self.read(rows)) for token, _, rows, _ in self._native.certified_argmax(hidden)]

    def bounds(self, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(lower, upper), float32 [vocabulary] each: the dense logits always lie between them."""
        middle, radius = self._native.bounds(hidden)
        lower, upper = middle - radius, np.add(middle, radius, out=middle)
        if self._cap is None:
            return lower, upper
        slack = np.float32(CAP_SLACK * self._cap)
        return softcap(lower, self._cap) - slack, softcap(upper, self._cap) + slack

    def exact_rows(self, hidden: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Float32 [n], bit-identical to the same rows of `DenseHead.logits`."""
        values = self._native.exact_rows(hidden, np.ascontiguousarray(indices, np.int32))
        return softcap(values, self._cap)

    def logits(self, hidden: np.ndarray) -> tuple[np.ndarray, Read]:
        """The dense logits, all rows read."""
        return softcap(self._native.dense(hidden), self._cap), Read(self.rows.rows, self.rows.nbytes)

    def read(self, rows: int) -> Read:
        """What a query cost that scored all upper planes and computed `rows` rows."""
        return Read(rows, self.upper_bytes + rows * self.row_bytes)
