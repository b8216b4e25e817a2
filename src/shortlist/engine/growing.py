"""A text that grows token by token: whole characters, stop strings, and where it ends."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from shortlist.engine.choose import Chooser, Chosen
from shortlist.engine.logprobs import TokenLogprobs
from shortlist.engine.options import GenerationOptions
from shortlist.engine.stats import RunStats
from shortlist.engine.stop import StopMatcher
from shortlist.model.tokenizer.streaming import StreamDecoder
from shortlist.model.tokenizer.tokenizer import Tokenizer

SHOWN = 60  # characters of a text in `repr`


@dataclass(repr=False)
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

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= SHOWN else self.text[:SHOWN] + "..."
        return f"<Generation {text!r}: {len(self.tokens)} tokens, {self.finish_reason or 'unfinished'}>"

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
    chooser
        Of this text.

    Attributes
    ----------
    tokens : list of int
        Prompt and answer.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        options: GenerationOptions,
        tokenizer: Tokenizer,
        generation: Generation,
        chooser: Chooser,
    ):
        assert options.max_tokens is not None
        self.options = options
        self.generation = generation
        self.tokens = list(prompt)
        self.chooser = chooser
        self._tokenizer = tokenizer
        self._characters = StreamDecoder(tokenizer, continues=True)
        self._stop = StopMatcher(options.stops)

    @property
    def finished(self) -> bool:
        """Whether no more tokens are wanted."""
        return self.generation.finish_reason is not None

    def add(self, chosen: Chosen) -> str:
        """Take a token up; returns the text that is certain now, maybe none."""
        generation, token = self.generation, chosen.token
        if token in self._tokenizer.eos_ids:
            return self._end("stop", self._hidden(token))
        self.tokens.append(token)
        self.chooser.push(token)
        generation.tokens.append(token)
        if generation.logprobs is not None and chosen.logprobs is not None:
            generation.logprobs.append(chosen.logprobs)
        piece = self._stop.push(self._characters.push(token)) + self._stop.push(
            self._hidden(token), shown=False
        )
        generation.text += piece
        if self._stop.stopped:
            generation.finish_reason = "stop"
        elif len(generation.tokens) == self.options.max_tokens:
            piece += self._end("length")
        return piece

    def _hidden(self, token: int) -> str:
        """The text of a special token, which is not shown but may be a stop string or a part of one."""
        if token not in self._tokenizer.special_ids:
            return ""
        return self._tokenizer.token_bytes(token).decode("utf-8", "replace")

    def _end(self, reason: Literal["stop", "length"], hidden: str = "") -> str:
        """Let go of what was held back: a character that was cut off, the start of a stop string."""
        piece = self._stop.push(self._characters.flush()) + self._stop.push(hidden, shown=False)
        if self._stop.stopped:
            reason = "stop"
        else:
            piece += self._stop.flush()
        self.generation.text += piece
        self.generation.finish_reason = reason
        return piece
