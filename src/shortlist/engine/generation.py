"""Generate one text: bring the KV cache to it, choose a token, go on until it is finished."""

import time
from collections.abc import Callable, Iterator

from shortlist.engine.growing import Generation, GrowingText
from shortlist.engine.session import Session


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


def generate_pieces(
    text: GrowingText, session: Session, on_prompt: Callable[[int, int], None] | None = None
) -> Iterator[str]:
    """Generate until `text` is finished, yielding what is certain.

    `on_prompt` hears how much of the prompt was read.
    """
    stats = text.generation.stats
    loads = session.expert_loads
    while not text.finished:
        started = time.perf_counter()
        with session.lock:
            hidden, reused = session.extend(text.tokens, on_prompt if stats.draws == 0 else None)
            chosen = text.chooser.choose(hidden, position=len(text.tokens))
            stats.layer_bytes = session.layer_bytes
            if loads.size:
                stats.expert_loads = session.expert_loads - loads
        if stats.draws == 0:
            stats.reused_tokens = reused
        stats.add(time.perf_counter() - started, chosen.read, full=chosen.full, agrees=chosen.agrees)
        if piece := text.add(chosen):
            yield piece
