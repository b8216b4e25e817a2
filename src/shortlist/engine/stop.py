"""Stop strings in a stream: text is held back only while it could still become a stop string."""

from collections.abc import Sequence


class StopMatcher:
    """Passes text through until a stop string is complete, and never passes any part of one.

    Among several stop strings the one that is complete first counts; of those that end together, the longest.
    How the text is cut into pieces makes no difference.

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
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def push(self, piece: str) -> str:
        """Add a piece of text; returns what can be passed on."""
        text = self._held + piece
        ends = [(start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0]
        if ends:
            self.stopped = True
            self._held = ""
            return text[: min(ends)[1]]
        cut = len(text) - self._longest_start(text)
        self._held = text[cut:]
        return text[:cut]

    def flush(self) -> str:
        """The text that was held back, once it is certain that no more follows."""
        held, self._held = self._held, ""
        return held

    def _longest_start(self, text: str) -> int:
        """Length of the longest end of `text` that is the start of a stop string."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
