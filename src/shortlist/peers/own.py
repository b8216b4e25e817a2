"""shortlist itself as a peer: the decoder and one of its heads, without tokenizer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

import shortlist
from shortlist.engine.choose_head import HeadName
from shortlist.model.decoder import Ffn
from shortlist.peers.base import SteppingPeer

CONTEXT = 2048


class Shortlist(SteppingPeer):
    """The engine of this package, with the parameters of `shortlist.load`."""

    def __init__(
        self,
        path: Path,
        threads: int | None,
        head: HeadName = "dense",
        *,
        weights: Literal["q8", "q4"] | None = None,
        ffn: Ffn = "auto",
        recipe: str | None = None,
    ):
        self.model = shortlist.load(path, head=head, weights=weights, ffn=ffn, recipe=recipe, threads=threads)
        self.settings = "; ".join(self.model.notes)
        self.context = min(CONTEXT, self.model.config.context_length)
        self.steps = 0
        self.head_bytes = 0
        self.reset()

    @property
    def bytes_per_token(self) -> float:
        return self.model.decoder.layer_bytes + self.head_bytes / max(self.steps, 1)

    def reset(self) -> None:
        self.cache = self.model.decoder.new_cache(self.context)

    def step(self, tokens: Sequence[int]) -> int:
        hidden = self.model.decoder.forward(np.array(tokens, dtype=np.int32), self.cache)
        token, read = self.model.head.argmax(hidden[-1])
        self.steps += 1
        self.head_bytes += read.bytes
        return token
