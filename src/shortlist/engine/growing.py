"""A text that grows token by token: whole characters, stop strings, and where it ends."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from shortlist.engine.exact_sampling import Draw
from shortlist.engine.logprobs import TokenLogprobs, token_logprobs
from shortlist.engine.options import GenerationOptions
from shortlist.engine.stats import RunStats
from shortlist.engine.stop import StopMatcher
from shortlist.models.streaming import StreamDecoder
from shortlist.models.tokenizer import Tokenizer


@dataclass
class Generation:
    """A generated text; while it is streamed, what there is of it so far.

    Parameters
    ----------
    stats
    seed
        That gives the same text again; None when greedy.
    text
        Without the prompt and without the stop string.
    tokens
        Without the token that ended the text. A stop string may lie in the last of them.
    logprobs
        One for each of `tokens`, where they were asked for.
    finish_reason
        `stop`: the model or a stop string ended the text; `length`: `max_tokens` did; None: it is unfinished.
    """

    stats: RunStats
    seed: int | None
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] | None = None
    finish_reason: Literal["stop", "length"] | None = None

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "text": self.text,
            "tokens": self.tokens,
            "finish_reason": self.finish_reason,
            "seed": self.seed,
            "logprobs": self.logprobs and [entry.to_dict() for entry in self.logprobs],
            "stats": self.stats.to_dict(),
        }


class GrowingText:
    """Prompt and answer so far; what `generation` says of the answer is kept up to date.

    Parameters
    ----------
    prompt
        Tokens, one at least.
    options
        With `max_tokens`.
    tokenizer
    generation
        Unfinished, without text.

    Attributes
    ----------
    tokens : list of int
        Prompt and answer.
    seen : bool [vocab]
        Tokens that occur in the text so far.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        options: GenerationOptions,
        tokenizer: Tokenizer,
        generation: Generation,
    ):
        assert options.max_tokens is not None
        self.options = options
        self.generation = generation
        self.tokens = list(prompt)
        self.seen = np.zeros(generation.stats.vocab_size, dtype=bool)
        self.seen[self.tokens] = True
        self._tokenizer = tokenizer
        self._characters = StreamDecoder(tokenizer, continues=True)
        self._stop = StopMatcher(options.stops)

    @property
    def finished(self) -> bool:
        """Whether no more tokens are wanted."""
        return self.generation.finish_reason is not None

    def add(self, draw: Draw, logits: np.ndarray | None) -> str:
        """Take a token up; returns the text that is certain now, maybe none.

        Parameters
        ----------
        draw
        logits : float32 [vocab], optional
            Needed where log-probabilities are asked for.
        """
        generation, options = self.generation, self.options
        if draw.token in self._tokenizer.eos_ids:
            return self._end("stop")
        self.tokens.append(draw.token)
        self.seen[draw.token] = True
        generation.tokens.append(draw.token)
        if generation.logprobs is not None and options.logprobs is not None and logits is not None:
            generation.logprobs.append(token_logprobs(logits, draw.token, options.logprobs, self._tokenizer))
        piece = self._stop.push(self._characters.push(draw.token))
        generation.text += piece
        if self._stop.stopped:
            generation.finish_reason = "stop"
        elif len(generation.tokens) == options.max_tokens:
            piece += self._end("length")
        return piece

    def _end(self, reason: Literal["stop", "length"]) -> str:
        """Let go of what was held back: a character that was cut off, the start of a stop string."""
        piece = self._stop.push(self._characters.flush())
        if self._stop.stopped:
            reason = "stop"
        else:
            piece += self._stop.flush()
        self.generation.text += piece
        self.generation.finish_reason = reason
        return piece
