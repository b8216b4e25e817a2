"""What an engine tells of a sequence while it is worked on."""

from dataclasses import dataclass

from shortlist.engine.choose import Chosen
from shortlist.engine.generation import Generation


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
class PromptEvent:
    """A part of the prompt was read, and more of it is left.

    Parameters
    ----------
    read
        Tokens of the prompt in the KV cache, those that were there before included.
    total
        Tokens of the prompt.
    """

    read: int
    total: int


@dataclass(frozen=True)
class TokenEvent:
    """A token was chosen.

    Parameters
    ----------
    chosen
        The token, and what was asked to be known of its choice. It may be the token that ends the text, which
        is not part of it.
    text
        The text that is certain since the last event, maybe none.
    share
        Share of the vocabulary whose rows were read for this token.
    bytes_read
        Of the weights, for this token if it were alone: layers and head.
    """

    chosen: Chosen
    text: str
    share: float
    bytes_read: int

    @property
    def token(self) -> int:
        """The token that was chosen."""
        return self.chosen.token


@dataclass(frozen=True)
class DoneEvent:
    """The text is whole, or was cancelled: then its `finish_reason` is None."""

    generation: Generation
    timings: Timings


@dataclass(frozen=True)
class FailedEvent:
    """The request cannot be finished."""

    error: Exception


Event = PromptEvent | TokenEvent | DoneEvent | FailedEvent
