"""Stop strings in a stream: text is held back only while it could still become a stop string."""

from collections import deque
from collections.abc import Sequence


class StopMatcher:
    """Passes text through until a stop string is complete, and never passes any part of one.

    Among several stop strings the one that is complete first counts; of those that end together, the longest.
    How the text is cut into pieces makes no difference. A character takes the same time for any number of
    stop strings (Aho and Corasick, https://doi.org/10.1145/360825.360855).

    Parameters
    ----------
    stops
        Strings that end the text, none of them empty; they are not part of it.

    Attributes
    ----------
    stopped : bool
        A stop string was found; nothing more will be passed.
    """

    def __init__(self, stops: Sequence[str]):
        self._next: list[dict[str, int]] = [{}]
        self._depth = [0]
        self._stop = [0]  # length of the longest stop string that ends in a state
        for stop in stops:
            self._add(stop)
        self._fail = [0] * len(self._next)
        self._link()
        self._state = 0
        self._held: deque[tuple[str, bool]] = deque()  # as many characters as the state is deep
        self.stopped = False

    def push(self, piece: str, *, shown: bool = True) -> str:
        """Add a piece of text; returns what can be passed on.

        Parameters
        ----------
        piece
            Characters that follow on those before.
        shown
            Whether they are part of the text, or only take part in the matching, as special tokens do.
        """
        passed: list[str] = []
        for character in piece:
            if self.stopped:
                break
            self._held.append((character, shown))
            self._state = self._step(self._state, character)
            length = self._stop[self._state]
            self._release(length or self._depth[self._state], passed)
            if length:
                self.stopped = True
                self._held.clear()
        return "".join(passed)

    def flush(self) -> str:
        """The text that was held back, once it is certain that no more follows."""
        passed: list[str] = []
        self._state = 0
        self._release(0, passed)
        return "".join(passed)

    def _release(self, keep: int, passed: list[str]) -> None:
        """Let go of all that is held but the last `keep` characters."""
        while len(self._held) > keep:
            character, shown = self._held.popleft()
            if shown:
                passed.append(character)

    def _add(self, stop: str) -> None:
        state = 0
        for character in stop:
            if character not in self._next[state]:
                self._next[state][character] = len(self._next)
                self._next.append({})
                self._depth.append(self._depth[state] + 1)
                self._stop.append(0)
            state = self._next[state][character]
        self._stop[state] = len(stop)

    def _link(self) -> None:
        """Find for each state the longest proper end of its text that begins a stop string."""
        waiting = deque(self._next[0].values())
        while waiting:
            state = waiting.popleft()
            for character, following in self._next[state].items():
                fail = self._step(self._fail[state], character)
                self._fail[following] = fail
                self._stop[following] = self._stop[following] or self._stop[fail]
                waiting.append(following)

    def _step(self, state: int, character: str) -> int:
        """The state after one more character."""
        while state and character not in self._next[state]:
            state = self._fail[state]
        return self._next[state].get(character, 0)
