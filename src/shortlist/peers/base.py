"""What the benchmark asks of an engine: read a prompt, then write tokens one by one."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from shortlist.errors import ShortlistError


class PeerError(ShortlistError):
    """An engine cannot run this model; the message says why."""


class Peer(ABC):
    """One engine that holds one model, on `threads` threads, with nothing else loaded beside it.

    Attributes
    ----------
    settings : str
        What was chosen for the engine, in its own words.
    bytes_per_token : float
        Bytes of weights that decoding reads for each token, over what was decoded so far.
    """

    settings: str = ""
    bytes_per_token: float

    @abstractmethod
    def __init__(self, path: Path, threads: int): ...

    @abstractmethod
    def prefill(self, tokens: Sequence[int]) -> float:
        """Seconds from an empty cache to the next token's logits."""

    @abstractmethod
    def decode(self, prompt: Sequence[int], count: int) -> float:
        """Seconds to write `count` tokens after `prompt`, greedily, ends of text ignored."""


class SteppingPeer(Peer):
    """An engine whose cache is extended by hand."""

    @abstractmethod
    def reset(self) -> None:
        """Empty the cache."""

    @abstractmethod
    def step(self, tokens: Sequence[int]) -> int:
        """Append `tokens` to the cache and return the greedy next token."""

    def prefill(self, tokens: Sequence[int]) -> float:
        self.reset()
        start = perf_counter()
        self.step(tokens)
        return perf_counter() - start

    def decode(self, prompt: Sequence[int], count: int) -> float:
        self.reset()
        token = self.step(prompt)
        start = perf_counter()
        for _ in range(count):
            token = self.step([token])
        return perf_counter() - start
