"""Hidden states from text that the model writes itself, when no calibration text is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import numpy as np

from shortlist.engine.options import SamplingOptions
from shortlist.engine.sampling import sample
from shortlist.sites.head import Head

PASSAGE = 64  # tokens after which the next passage starts, if the model has not ended this one
SAMPLING = SamplingOptions(temperature=1.0, min_p=0.001, seed=0)  # top-p has to sort the vocabulary

# Short beginnings of unlike texts. A model with a chat template gets each as a user's message too.
STARTS = (
    "The",
    "In 1998, the city of",
    "How do I",
    "def main():\n",
    "Once upon a time",
    "# Introduction\n\n",
    "1. ",
    "Dear",
    "According to a new study,",
    "Explain why",
    "La ville de",
    '{"name": "',
    '"I don\'t know," she said.',
    "Let x be",
    "Der",
    "Ingredients:\n-",
)


def write_passages(
    decoder: Any, tokenizer: Any, count: int, progress: Callable[[float], None]
) -> tuple[np.ndarray, np.ndarray]:
    """Let the model write, sampling at temperature 1 from all but the least likely tokens.

    Parameters
    ----------
    decoder : Decoder
    tokenizer : Tokenizer
    count : int
        Positions wanted.
    progress : callable
        Called with the share of the work that is done.

    Returns
    -------
    hidden : float32 [count, width]
    targets : int64 [count]
        The token that was drawn after each.
    """
    hidden, targets = [], []
    head = Head(decoder.head_rows, decoder.logit_cap)
    for prompt in cycle(_prompts(tokenizer)):
        cache = decoder.new_cache(len(prompt) + PASSAGE)
        state = decoder.forward(np.array(prompt, dtype=np.int32), cache)[-1]
        for _ in range(PASSAGE):
            logits, _ = head.logits(state)
            token = sample(logits, SAMPLING, position=len(targets))
            hidden.append(state)
            targets.append(token)
            progress(len(targets) / count)
            if len(targets) == count:
                return np.stack(hidden), np.array(targets, dtype=np.int64)
            if token in tokenizer.eos_ids:
                break
            state = decoder.forward(np.array([token], dtype=np.int32), cache)[-1]
    raise AssertionError("the prompts are repeated without end")


def _prompts(tokenizer: Any) -> Iterator[list[int]]:
    for start in STARTS:
        yield tokenizer.encode(start)
        if tokenizer.chat_template is not None:
            yield tokenizer.encode_chat([{"role": "user", "content": start}])
