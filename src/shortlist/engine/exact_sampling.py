"""The draw of `sampling.sample` in native code: the same token, for several texts at once.

`native/sites/sampling.hpp` says how. A dense head reads its rows once for all texts. An exact head reads
bounds of all logits, and the rows that could change a token.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from shortlist import _native
from shortlist.engine.adjust import Adjustment
from shortlist.engine.options import SamplingOptions
from shortlist.engine.sampling import sample
from shortlist.sites.head import Head, Read


@dataclass(frozen=True)
class Draw:
    """A chosen token, what choosing it read of the head, and whether bounds did not settle it (`full`)."""

    token: int
    read: Read
    full: bool = False


@dataclass(frozen=True)
class Asked:
    """What is asked of the next token of one text.

    Parameters
    ----------
    options
        With a seed unless greedy.
    position
        Place of the token, counted from the start of the text.
    adjust
        Must allow one row at least.
    """

    options: SamplingOptions
    position: int
    adjust: Adjustment

    def native(self, cap: float | None) -> _native.Sampling:
        """The same for the native code; `cap` is that of the head."""
        options, adjust = self.options, self.adjust
        return _native.Sampling(
            temperature=0.0 if options.greedy else options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            log_min_p=math.log(options.min_p) if options.min_p > 0 else -math.inf,
            seed=options.seed or 0,
            position=self.position,
            cap=cap or 0.0,
            seen=adjust.seen,
            penalty=options.repetition_penalty,
            offsets=adjust.offsets,
            allowed=adjust.allowed,
        )


def draw_together(head: Head, hidden: np.ndarray, asked: Sequence[Asked]) -> list[Draw]:
    """The tokens that `sampling.sample` takes from all logits of a head, adjusted.

    Parameters
    ----------
    head
        One that `draws`.
    hidden : float32 [n, width]
    asked
        For each of them.
    """
    native = [each.native(head.cap) for each in asked]
    draws = [Draw(*drawn) for drawn in head.draw_together(hidden, native)]
    if head.bounded and (left := [i for i, draw in enumerate(draws) if draw.token < 0]):
        # Bounds leave the sums of top-p too wide.
        whole = head.draw_together(hidden[left], [native[i] for i in left], whole=True)
        for i, (token, read) in zip(left, whole, strict=True):
            draws[i] = Draw(token, Read(read.rows, read.bytes + draws[i].read.bytes), full=True)
    for i, (draw, each) in enumerate(zip(draws, asked, strict=True)):
        if draw.token < 0:  # only the definition's own order of summation can say where top-p ends
            logits, _ = head.logits(hidden[i])
            token = sample(each.adjust(logits), each.options, each.position)
            draws[i] = replace(draw, token=token)
    return draws
