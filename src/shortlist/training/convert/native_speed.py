"""How fast the native runtime decodes a model that was converted, if it can read it."""

from __future__ import annotations

from pathlib import Path

import shortlist
from shortlist.errors import ShortlistError

TOKENS = 64
WEIGHTS = "q8"
PROMPT = "Write a long story about a lighthouse keeper who finds a letter in a bottle after a storm."


def native_speed(folder: Path, threads: int | None = None) -> tuple[float | None, str]:
    """Decode tokens/s with weights in 8 bits and a dense head; or None, and why the folder cannot be read."""
    try:
        with shortlist.load(folder, head="dense", weights=WEIGHTS, threads=threads, progress=False) as model:
            runs = [model.generate(PROMPT, max_tokens=TOKENS, temperature=0.0) for _ in range(3)]
    except ShortlistError as error:
        return None, str(error)
    return max(run.stats.decode_tokens_per_s or 0.0 for run in runs), ""
