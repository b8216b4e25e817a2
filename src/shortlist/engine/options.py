"""What a caller may ask of a generated text.

Nothing here needs NumPy, so that the command line can read its defaults here and still start at once.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, TypedDict

from shortlist.errors import UsageError
from shortlist.nearest import options_checked

if TYPE_CHECKING:
    from shortlist.engine.constraints import Constraint

MAX_LOGPROBS = 100
MAX_BIAS = 100.0
MAX_BIASES = 1024
MAX_PENALTY = 2.0
LEAST_TEMPERATURE = 0.01
"""Below, noise decides nothing that anyone could tell from the greatest logit, so the greatest is taken."""

REALS = {
    "temperature",
    "top_p",
    "min_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
}
INTEGERS = {"top_k", "seed", "max_tokens", "logprobs", "audit"}
OPTIONAL = INTEGERS - {"top_k"}
"""Of these, None leaves something open."""


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """What turns logits into one token.

    Parameters
    ----------
    temperature
        Logits are divided by it; 0, and all below `LEAST_TEMPERATURE`, always takes the greatest (greedy).
    top_k
        Keep this many of the greatest logits; 0 keeps all.
    top_p
        Keep the most likely tokens until they hold this share of the probability; 1 keeps all, 0 keeps the
        greatest alone.
    min_p
        Keep tokens at least this share as likely as the most likely one; 0 keeps all.
    repetition_penalty
        Divide positive logits of tokens that occur in the text so far by it, multiply negative ones (CTRL,
        https://arxiv.org/abs/1909.05858); 1 changes nothing.
    frequency_penalty, presence_penalty
        Taken off the logit of each token of the answer so far, once for every time that it occurs, and once
        if it occurs at all; from -2 to 2, as OpenAI defines them.
    logit_bias
        Added to the logits of single tokens, from -100, which all but forbids one, to 100.
    constraint
        What the answer must match, such as `JsonSchema` or `Regex`; None: nothing.
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
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    constraint: "Constraint | None" = None
    seed: int | None = None

    def __post_init__(self) -> None:
        self._check_numbers()
        if not 0 <= self.temperature <= 100:
            raise UsageError(f"temperature must be from 0 (greedy) to 100, not {self.temperature}")
        if self.top_k < 0:
            raise UsageError(f"top-k must be 0 (keep all) or more, not {self.top_k}")
        if not 0 <= self.top_p <= 1:
            raise UsageError(f"top-p must be from 0 (greedy) to 1 (keep all), not {self.top_p}")
        if not 0 <= self.min_p <= 1:
            raise UsageError(f"min-p must be from 0 (keep all) to 1, not {self.min_p}")
        if not 0.01 <= self.repetition_penalty <= 100:
            raise UsageError(
                "repetition penalty must be from 0.01 to 100 (1 changes nothing), "
                f"not {self.repetition_penalty}"
            )
        for name in ("frequency", "presence"):
            penalty = getattr(self, f"{name}_penalty")
            if not -MAX_PENALTY <= penalty <= MAX_PENALTY:
                raise UsageError(f"{name} penalty must be from -2 to 2 (0 changes nothing), not {penalty}")
        self._check_biases()
        if self.seed is not None and not 0 <= self.seed < 2**64:
            raise UsageError(f"seed must be from 0 to 2**64 - 1, not {self.seed}")

    def _check_numbers(self) -> None:
        for names, kind, what in ((REALS, Real, "a number"), (INTEGERS, Integral, "an integer")):
            for name in names & vars(self).keys():
                value = getattr(self, name)
                is_kind = isinstance(value, kind) and not isinstance(value, bool)
                if not is_kind and not (value is None and name in OPTIONAL):
                    raise UsageError(f"{name} must be {what}, not {value!r:.40}")

    def _check_biases(self) -> None:
        if len(self.logit_bias) > MAX_BIASES:
            raise UsageError(f"logit bias is for up to {MAX_BIASES} tokens, not {len(self.logit_bias)}")
        for token, bias in self.logit_bias.items():
            if math.isnan(bias) or abs(bias) > MAX_BIAS:
                raise UsageError(f"logit bias must be from -100 to 100, not {bias} (token {token})")

    @property
    def greedy(self) -> bool:
        """Whether the token is always the one with the greatest logit."""
        return self.temperature < LEAST_TEMPERATURE or self.top_p == 0


class Options(TypedDict, total=False):
    """The fields of `GenerationOptions`, for what takes them as keyword arguments."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    logit_bias: Mapping[int, float]
    constraint: "Constraint | None"
    seed: int | None
    max_tokens: int | None
    stop: str | Sequence[str]
    logprobs: int | None
    dense_head: bool
    audit: int | None
    trace: bool


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
    dense_head
        Read all rows of the head for this text, whichever head the model has.
    audit
        Compare every so many tokens, the first included, with what the dense head would have chosen; None
        compares none. What that reads counts nowhere.
    trace
        Also report, for each token, the likeliest candidates with their estimated and exact scores.

    Raises
    ------
    UsageError
        A value is out of range.
    """

    max_tokens: int | None = 256
    stop: str | Sequence[str] = ()
    logprobs: int | None = None
    dense_head: bool = False
    audit: int | None = None
    trace: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_tokens is not None and self.max_tokens < 1:
            raise UsageError(f"the most tokens to generate must be at least 1, not {self.max_tokens}")
        if "" in self.stops:
            raise UsageError("a stop string must not be empty")
        if self.logprobs is not None and not 0 <= self.logprobs <= MAX_LOGPROBS:
            raise UsageError(f"logprobs must be from 0 to {MAX_LOGPROBS}, not {self.logprobs}")
        if self.audit is not None and self.audit < 1:
            raise UsageError(f"audit must be 1 (every token) or more, not {self.audit}")

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings, also where a single one was given."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


# A dataclass answers an unknown field with a TypeError that does not name the nearest.
SamplingOptions.__init__ = options_checked(SamplingOptions.__init__)
GenerationOptions.__init__ = options_checked(GenerationOptions.__init__)
