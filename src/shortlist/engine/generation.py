"""One text while it is being generated: choose a token, turn it into text, stop where asked."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from shortlist.engine.choose import Chooser
from shortlist.engine.logprobs import TokenLogprobs
from shortlist.engine.options import GenerationOptions
from shortlist.engine.session import Session
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

    def __next__(self) -> str:
        return next(self._pieces)


def generate_pieces(
    prompt: Sequence[int],
    options: GenerationOptions,
    *,
    session: Session,
    chooser: Chooser,
    tokenizer: Tokenizer,
    generation: Generation,
) -> Iterator[str]:
    """Generate into `generation`, yielding text as soon as it is certain.

    Parameters
    ----------
    prompt
        Tokens, one at least.
    options
        With `max_tokens`, and with a seed unless greedy.
    chooser
        Of this text.
    """
    assert options.max_tokens is not None
    text = list(prompt)
    characters = StreamDecoder(tokenizer, continues=True)
    stop = StopMatcher(options.stops)

    def passed(piece: str) -> Iterator[str]:
        generation.text += piece
        if piece:
            yield piece

    for _ in range(options.max_tokens):
        started = time.perf_counter()
        with session.lock:
            hidden, reused = session.extend(text)
            chosen = chooser.choose(hidden, position=len(text))
            generation.stats.layer_bytes = session.layer_bytes
        if generation.stats.draws == 0:
            generation.stats.reused_tokens = reused
        generation.stats.add(
            time.perf_counter() - started, chosen.read, full=chosen.full, agrees=chosen.agrees
        )

        if chosen.token in tokenizer.eos_ids:
            generation.finish_reason = "stop"
            break
        text.append(chosen.token)
        chooser.push(chosen.token)
        generation.tokens.append(chosen.token)
        if generation.logprobs is not None and chosen.logprobs is not None:
            generation.logprobs.append(chosen.logprobs)
        yield from passed(stop.push(characters.push(chosen.token)))
        if stop.stopped:
            generation.finish_reason = "stop"
            return
    else:
        generation.finish_reason = "length"

    yield from passed(stop.push(characters.flush()))
    if stop.stopped:
        generation.finish_reason = "stop"
    else:
        yield from passed(stop.flush())
