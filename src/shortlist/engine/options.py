"""What a caller may ask of a generated text.

Nothing here needs NumPy, so that the command line can read its defaults here and still start at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shortlist.errors import UsageError

MAX_LOGPROBS = 100


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """What turns logits into one token.

    Parameters
    ----------
    temperature
        Logits are divided by it; 0 always takes the greatest (greedy).
    top_k
        Keep this many of the greatest logits; 0 keeps all.
    top_p
        Keep the most likely tokens until they hold this share of the probability; 1 keeps all.
    min_p
        Keep tokens at least this share as likely as the most likely one; 0 keeps all.
    repetition_penalty
        Divide positive logits of tokens that occur in the text so far by it, multiply negative ones (CTRL,
        https://arxiv.org/abs/1909.05858); 1 changes nothing.
    seed
        Same seed, same text; None draws a new seed for each text.

    Raises
    ------
    UsageError
        A value is out of range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if not (self.temperature == 0 or 0.01 <= self.temperature <= 100):
            raise UsageError(f"temperature must be 0 (greedy) or from 0.01 to 100, not {self.temperature}")
        if self.top_k < 0:
            raise UsageError(f"top-k must be 0 (keep all) or more, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top-p must be above 0 and at most 1 (keep all), not {self.top_p}")
        if not 0 <= self.min_p <= 1:
            raise UsageError(f"min-p must be from 0 (keep all) to 1, not {self.min_p}")
        if not 0.01 <= self.repetition_penalty <= 100:
            raise UsageError(
                "repetition penalty must be from 0.01 to 100 (1 changes nothing), "
                f"not {self.repetition_penalty}"
            )
        if self.seed is not None and not 0 <= self.seed < 2**64:
            raise UsageError(f"seed must be from 0 to 2**64 - 1, not {self.seed}")

    @property
    def greedy(self) -> bool:
        """Whether the token is always the one with the greatest logit."""
        return self.temperature == 0


@dataclass(frozen=True, kw_only=True)
class GenerationOptions(SamplingOptions):
    """How one text is generated: the sampling options, and where it ends.

    Parameters
    ----------
    max_tokens
        Most tokens to generate; None: as many as the context has room for.
    stop
        Strings that end the text; they are not part of it.
    logprobs
        Also return the log-probability of each token and of this many of the most likely ones; None returns
        none. They are those of the model, before penalty, temperature and truncation. The head reads all its
        rows for them.

    Raises
    ------
    UsageError
        A value is out of range.
    """

    max_tokens: int | None = 256
    stop: str | Sequence[str] = ()
    logprobs: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_tokens is not None and self.max_tokens < 1:
            raise UsageError(f"the most tokens to generate must be at least 1, not {self.max_tokens}")
        if "" in self.stops:
            raise UsageError("a stop string must not be empty")
        if self.logprobs is not None and not 0 <= self.logprobs <= MAX_LOGPROBS:
            raise UsageError(f"logprobs must be from 0 to {MAX_LOGPROBS}, not {self.logprobs}")

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings, also where a single one was given."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
