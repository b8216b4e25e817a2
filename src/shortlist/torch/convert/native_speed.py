"""How fast the native runtime decodes a model that was converted, if it can read it."""

from __future__ import annotations

from pathlib import Path

from shortlist.errors import ShortlistError
from shortlist.peers.own import Shortlist

TOKENS = 64
WEIGHTS = "q8"
PROMPT = "Write a long story about a lighthouse keeper who finds a letter in a bottle after a storm."


def native_speed(folder: Path, threads: int | None = None) -> tuple[float | None, str]:
    """Decode tokens/s with weights in 8 bits and a dense head; or None, and why the folder cannot be read.

    Ends of text are ignored: a model that was just converted may have nothing to say, and is as fast.
    """
    try:
        engine = Shortlist(folder, threads, weights=WEIGHTS)
        prompt = engine.model.encode(PROMPT)[: engine.context // 2]
        count = min(TOKENS, engine.context - len(prompt))
        return max(count / engine.decode(prompt, count) for _ in range(3)), ""
    except ShortlistError as error:
        return None, str(error)
