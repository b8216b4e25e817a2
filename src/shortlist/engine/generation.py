"""One text while it is being generated: extend the cache, choose a token, turn it into text."""

import time
from collections.abc import Iterator, Sequence

import numpy as np

from shortlist.engine.exact_sampling import BoundedHead, Draw, sample_exact
from shortlist.engine.growing import Generation, GrowingText
from shortlist.engine.options import GenerationOptions
from shortlist.engine.sampling import sample
from shortlist.engine.session import Session
from shortlist.models.heads import DenseHead, EstimatedHead, ExactHead
from shortlist.models.tokenizer import Tokenizer


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
    head: DenseHead | EstimatedHead | ExactHead,
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
    """
    text = GrowingText(prompt, options, tokenizer, generation)
    while not text.finished:
        started = time.perf_counter()
        with session.lock:
            hidden, reused = session.extend(text.tokens)
            draw, logits = choose(head, hidden, options, position=len(text.tokens), seen=text.seen)
            generation.stats.layer_bytes = session.layer_bytes
        if generation.stats.draws == 0:
            generation.stats.reused_tokens = reused
        generation.stats.add(time.perf_counter() - started, draw.read, full=draw.full)
        if piece := text.add(draw, logits):
            yield piece


def choose(
    head: DenseHead | EstimatedHead | ExactHead,
    hidden: np.ndarray,
    options: GenerationOptions,
    *,
    position: int,
    seen: np.ndarray,
) -> tuple[Draw, np.ndarray | None]:
    """The next token by the cheapest path that the options allow, and all logits where that path has them.

    In this order: log-probabilities need all logits; greedy without penalty needs only the greatest; an exact
    head draws from bounds; another head draws from its logits.
    """
    if options.logprobs is None:
        if options.greedy and options.repetition_penalty == 1:
            token, read = head.argmax(hidden)
            return Draw(token, read), None
        if isinstance(head, BoundedHead):
            return sample_exact(head, hidden, options, position, seen), None
    logits, read = head.logits(hidden)
    return Draw(sample(logits, options, position, seen), read), logits
