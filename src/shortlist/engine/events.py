"""What a batch engine tells of a request while it is worked on."""

from dataclasses import dataclass

from shortlist.engine.growing import Generation
from shortlist.engine.logprobs import TokenLogprobs


@dataclass
class Timings:
    """Where the time of a request went, in seconds; together they are its time in the engine.

    Parameters
    ----------
    queue
        Waiting for a slot.
    prefill
        Steps of the decoder until the whole prompt was read.
    decode
        Steps of the decoder after that.
    sampling
        Heads and the choice of tokens, for all requests of those steps.
    """

    queue: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    sampling: float = 0.0

    @property
    def total(self) -> float:
        """From submission to the end."""
        return self.queue + self.prefill + self.decode + self.sampling


@dataclass(frozen=True)
class Candidate:
    """A token that was looked at: its estimated logit, where there is one, and the exact one."""

    token: int
    estimated: float | None
    exact: float


@dataclass(frozen=True)
class TokenEvent:
    """A token was chosen.

    Parameters
    ----------
    token
        It may be the one that ends the text, which is not part of it.
    text
        The text that is certain since the last event, maybe none.
    logprobs
        Where they were asked for, except of the token that ends the text.
    rows_read
        Rows of the head that were computed exactly for it.
    share
        Of the vocabulary, that these are.
    candidates
        The likeliest rows that were computed, best first, where a trace was asked for.
    """

    token: int
    text: str
    logprobs: TokenLogprobs | None
    rows_read: int
    share: float
    candidates: tuple[Candidate, ...] | None = None


@dataclass(frozen=True)
class DoneEvent:
    """The text is whole, or was cancelled: then its `finish_reason` is None."""

    generation: Generation
    timings: Timings


@dataclass(frozen=True)
class FailedEvent:
    """The request cannot be finished."""

    error: Exception


Event = TokenEvent | DoneEvent | FailedEvent
