"""The interface of an engine in a benchmark: prefill a prompt, then decode tokens one by one."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from shortlist.errors import ShortlistError


class PeerError(ShortlistError):
    """An engine cannot run this model; the message says why."""


class Peer(ABC):
    """An engine with one model on `threads` threads, alone in its process.

    Attributes
    ----------
    settings : str
        The chosen settings, in the engine's own terms.
    bytes_per_token : float
        Mean bytes of weights that decoding has read per token so far.
    """

    settings: str = ""
    bytes_per_token: float

    @abstractmethod
    def __init__(self, path: Path, threads: int): ...

    @abstractmethod
    def prefill(self, tokens: Sequence[int]) -> float:
        """Seconds of prefill, from an empty cache to the next token's logits."""

    @abstractmethod
    def decode(self, prompt: Sequence[int], count: int) -> float:
        """Seconds to decode `count` tokens greedily after `prompt`; end-of-text tokens are ignored."""


class SteppingPeer(Peer):
    """An engine whose cache is extended step by step."""

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
