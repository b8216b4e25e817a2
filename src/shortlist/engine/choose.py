"""The next token of one text, by the cheapest path that what was asked allows."""

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from shortlist.engine.adjust import Adjustment
from shortlist.engine.exact_sampling import Asked, Draw, draw_together
from shortlist.engine.logprobs import TokenLogprobs, token_logprobs
from shortlist.engine.options import GenerationOptions
from shortlist.engine.sampling import sample, sample_rows, top_k
from shortlist.model.tokenizer.tokenizer import Tokenizer
from shortlist.sites.head import Head, Read

# Where a constraint allows at most this share of the rows, they are read and nothing else: a tenth of what
# the estimates of all rows would cost, or less.
FEW = 1 / 64

CANDIDATES = 5  # of a trace, and the token that was chosen where it is not among them


@dataclass(frozen=True)
class Candidate:
    """A likely token, or the one that was chosen.

    Parameters
    ----------
    token
    text
        Its bytes may be part of a character.
    estimated, spread
        The logit that the head's estimate gave, and how far the logit may be from it: the standard deviation
        of an estimated head, the bound of an exact one. None: the head does not estimate.
    exact
        The logit.
    probability
        By the softmax of all exact logits, before penalties, temperature and truncation.
    rank
        Place in the order of all exact logits, 1 being the first.
    chosen
        Whether it became the next token.
    special
        Whether it marks something, such as the end of the text, rather than being part of one.
    """

    token: int
    text: bytes
    estimated: float | None
    spread: float | None
    exact: float
    probability: float
    rank: int
    chosen: bool
    special: bool

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "text": self.text.decode("utf-8", errors="replace"), "bytes": list(self.text)}


@dataclass(frozen=True)
class Chosen:
    """A token, and what is known of its choice.

    Parameters
    ----------
    token
    read
        What choosing it read of the head.
    full
        Whether all rows had to be read although the head reads fewer: see `RunStats.full_draws`.
    logprobs
        Where they were asked for.
    dense_rank
        Where it was audited: its place in the order of the dense head's adjusted logits, 1 being the first.
    agrees
        Where it was audited: whether the dense head would have chosen it.
    candidates
        Where a trace was asked for: the likeliest tokens, likeliest first, and the token that was chosen.
    trace_seconds
        What the trace took: time that a text without one does not need.
    """

    token: int
    read: Read
    full: bool = False
    logprobs: TokenLogprobs | None = None
    dense_rank: int | None = None
    agrees: bool | None = None
    candidates: tuple[Candidate, ...] | None = None
    trace_seconds: float = 0.0


class Chooser:
    """Chooses the tokens of one text, one after another.

    Parameters
    ----------
    head
        Of the model.
    dense
        All rows of the same head.
    options
        With a seed unless greedy.
    adjust
        Of this text.
    tokenizer

    Attributes
    ----------
    head
        The one that this text is read with: `dense`, where the options want that.
    """

    def __init__(
        self,
        head: Head,
        dense: Head,
        options: GenerationOptions,
        adjust: Adjustment,
        tokenizer: Tokenizer,
    ):
        self.head = dense if options.dense_head else head
        self._dense, self._options, self._adjust, self._tokenizer = dense, options, adjust, tokenizer
        self._answer_tokens = 0

    @property
    def takes_greatest(self) -> bool:
        """Whether every token is the greatest logit of `head`, so that `head.argmax` says it."""
        return self._options.greedy and self._options.logprobs is None and self._adjust.changes_nothing

    def asked(self, position: int) -> Asked | None:
        """What `draw_together` is to draw at a position, where it may be drawn beside other texts' tokens."""
        options, adjust = self._options, self._adjust
        together = self.head.draws and options.logprobs is None and adjust.allowed is None
        return Asked(options, position, adjust) if together and not options.greedy else None

    def choose(self, hidden: np.ndarray, position: int) -> Chosen:
        """The token at a position, counted from the start of the text, after a hidden state float32 [width].

        In this order: log-probabilities need all logits. Greedy without adjustments needs only the greatest.
        Where a constraint allows few rows, those are read. Where it allows the greatest of all, that is the
        greatest of those it allows. A dense or an exact head draws natively. An estimated one draws from its
        logits; they hold estimates for what is unlikely, so where a bias or a constraint may make that
        likely, all rows are read.
        """
        with self._dense.workers:
            draw, logits = self._draw(hidden, position)
        return self.examine(draw, hidden, position, logits)

    def push(self, token: int) -> None:
        """Add a token to the text."""
        self._answer_tokens += 1
        self._adjust.push(token)

    def examine(
        self, draw: Draw, hidden: np.ndarray, position: int, logits: np.ndarray | None = None
    ) -> Chosen:
        """What else was asked to be known of a draw: log-probabilities from logits, an audit, a trace."""
        options = self._options
        chosen: dict[str, Any] = {}
        if options.logprobs is not None and logits is not None:
            chosen["logprobs"] = token_logprobs(logits, draw.token, options.logprobs, self._tokenizer)
        audited = self.head is not self._dense and options.audit and self._answer_tokens % options.audit == 0
        if audited:
            dense = self._adjust(self._dense.logits(hidden)[0])
            chosen["agrees"] = sample(dense, options, position) == draw.token
            chosen["dense_rank"] = 1 + int(np.count_nonzero(dense > dense[draw.token]))
        if options.trace:
            started = time.perf_counter()
            chosen["candidates"] = self._candidates(hidden, draw.token)
            chosen["trace_seconds"] = time.perf_counter() - started
        return Chosen(draw.token, draw.read, draw.full, **chosen)

    def _draw(self, hidden: np.ndarray, position: int) -> tuple[Draw, np.ndarray | None]:
        """A token, and the model's own logits where the path has them."""
        head, options, adjust = self.head, self._options, self._adjust
        if options.logprobs is None:
            if self.takes_greatest:
                return Draw(*head.argmax(hidden)), None
            if (allowed := adjust.allowed) is not None:
                if np.count_nonzero(allowed) <= FEW * len(allowed):
                    rows = np.flatnonzero(allowed)
                    values = adjust(head.exact_rows(hidden, rows), rows)
                    token = sample_rows(rows, values, options, position)
                    return Draw(token, Read(len(rows), len(rows) * head.row_bytes)), None
                if options.greedy and adjust.only_constrains:
                    token, read = head.argmax(hidden)
                    if allowed[token]:
                        return Draw(token, read), None
            if head.draws:
                return draw_together(head, hidden[None], [Asked(options, position, adjust)])[0], None
        full = adjust.lifts and not head.exact
        logits, read = (self._dense if full else head).logits(hidden)
        return Draw(sample(adjust(logits), options, position), read, full), logits

    def _candidates(self, hidden: np.ndarray, token: int) -> tuple[Candidate, ...]:
        """The likeliest tokens by all rows of the head, and the one that was chosen."""
        logits, _ = self._dense.logits(hidden)
        estimates = self.head.estimate(hidden)
        rows = top_k(logits, min(CANDIDATES, len(logits)))
        if token not in rows:
            rows = np.append(rows, token)
        total = np.logaddexp.reduce(logits.astype(np.float64))
        return tuple(
            Candidate(
                int(row),
                self._tokenizer.token_bytes(int(row)),
                *(None, None) if estimates is None else (float(each[row]) for each in estimates),
                exact=float(logits[row]),
                probability=float(np.exp(logits[row] - total)),
                rank=1 + int(np.count_nonzero(logits > logits[row])),
                chosen=int(row) == token,
                special=int(row) in self._tokenizer.special_ids,
            )
            for row in rows
        )
