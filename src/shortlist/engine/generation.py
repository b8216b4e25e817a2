"""A generated text, whole or as far as it has come, and the stream of its pieces."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from shortlist.engine.logprobs import TokenLogprobs
from shortlist.engine.stats import RunStats

SHOWN = 60  # characters of a text in `repr`


@dataclass(repr=False)
class Generation:
    """A generated text; while it is streamed, what there is of it so far.

    Parameters
    ----------
    stats
    seed
        The seed that gives the same text again; None when greedy.
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


class Stream(Iterator[str]):
    """Pieces of a text as they are generated, each of whole characters.

    Attributes
    ----------
    generation : Generation
        Grows with every piece; whole once the stream is exhausted.
    """

    def __init__(self, pieces: Iterator[str], generation: Generation):
        self._pieces = pieces
        self.generation = generation

    def __repr__(self) -> str:
        return f"<Stream of {self.generation!r}>"

    def __next__(self) -> str:
        return next(self._pieces)
