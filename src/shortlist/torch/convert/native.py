"""Uses of the native runtime in a conversion: generating text, and timing how fast a model decodes.

This is the only file of `shortlist.torch` that imports the runtime, and only inside its functions.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from shortlist.checkpoints import open_checkpoint
from shortlist.errors import ShortlistError

TOKENS = 64
WEIGHTS = "q8"
PROMPT = "Write a long story about a lighthouse keeper who finds a letter in a bottle after a storm."


def written_tokens(path: Path, count: int, report: Callable[[float], None]) -> tuple[np.ndarray, list[int]]:
    """Generate text with a model.

    Returns
    -------
    tokens : int64 [count]
    prefix : list of int
        The tokens with which every text of the model starts.
    """
    from shortlist.fit.own_text import write_passages
    from shortlist.model.decoder import Decoder
    from shortlist.model.tokenizer.tokenizer import Tokenizer

    with open_checkpoint(path) as checkpoint:
        tokenizer, decoder = Tokenizer.from_checkpoint(checkpoint), Decoder(checkpoint)
    _, written = write_passages(decoder, tokenizer, count, report)
    return written, tokenizer.encode("")


def native_speed(folder: Path, threads: int | None = None) -> tuple[float | None, str]:
    """Decode speed in tokens/s with 8-bit weights and a dense head; or None, and the reason for it.

    End-of-text tokens are ignored: a model that was just converted may stop at once.
    """
    import shortlist
    from shortlist.measure.speed import ROUNDS, token_seconds

    try:
        with shortlist.load(folder, weights=WEIGHTS, head="dense", threads=threads) as model:
            context = model.config.context_length
            prompt = model.encode(PROMPT)[: context // 2]
            positions = min(TOKENS, (context - len(prompt) - 1) // ROUNDS)
            decoder, state = model.decoder, np.zeros((positions, model.config.width), dtype=np.float32)
            return 1 / token_seconds(decoder, {"dense": model.head}, state, prompt)["dense"], ""
    except ShortlistError as error:
        return None, str(error)
