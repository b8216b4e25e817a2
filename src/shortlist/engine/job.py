"""One request that a batch engine works on."""

import time
from collections.abc import Callable

import numpy as np

from shortlist.engine.choose import Chosen
from shortlist.engine.events import Event, Timings
from shortlist.engine.exact_sampling import Draw
from shortlist.engine.growing import GrowingText
from shortlist.engine.session import common_start
from shortlist.engine.slots import Lease, Slot
from shortlist.sites.head import Read


class Job:
    """A request that was submitted.

    Parameters
    ----------
    text
    on_event
        Called with every event.
    progress
        Whether it also wants to hear how far its prompt is read.

    Attributes
    ----------
    lease : Lease or None
        Its slot, while it is worked on.
    loads : int64 [mixtures, experts]
        How often each expert was chosen before it was worked on.
    timings : Timings
    """

    def __init__(self, text: GrowingText, on_event: Callable[[Event], None], progress: bool = False):
        self.text = text
        self.on_event = on_event
        self.progress = progress
        self.lease: Lease | None = None
        self.loads = np.zeros((0, 0), np.int64)
        self.timings = Timings()
        self.cancelled = False
        self._mark = time.perf_counter()

    def cancel(self) -> None:
        """Stop after the token that is being computed; a `DoneEvent` follows, if none was sent yet."""
        self.cancelled = True

    @property
    def length(self) -> int:
        """Positions that the text may grow to."""
        text = self.text
        return len(text.tokens) - len(text.generation.tokens) + (text.options.max_tokens or 0)

    @property
    def computed(self) -> int:
        """Tokens of the text that are in its slot."""
        return self.slot.cache.length

    @property
    def remaining(self) -> int:
        """Tokens that are not: one while the text is written, more while its prompt is read."""
        return len(self.text.tokens) - self.computed

    @property
    def writes(self) -> bool:
        """Whether it has a token already, so that the next one is waited for."""
        return bool(self.text.generation.tokens)

    @property
    def slot(self) -> Slot:
        """Where its keys and values are."""
        assert self.lease is not None
        return self.lease.slot

    def next_tokens(self, count: int) -> np.ndarray:
        """The next tokens to compute; int32 [count]."""
        return np.array(self.text.tokens[self.computed : self.computed + count], np.int32)

    def take_shared(self) -> bool:
        """Copy what a donor has of the start of this text; False while the donor is still computing it."""
        assert self.lease is not None
        slot, donor, shared = self.lease.slot, self.lease.donor, self.lease.shared
        if donor is None:
            return True
        still = min(common_start(donor.tokens, self.text.tokens), shared)  # less where the slot was lent anew
        ready = min(donor.cache.length, still)
        if ready < still and donor.lent:
            return False
        slot.cache.take_over(donor.cache, ready)
        self.text.generation.stats.reused_tokens = ready
        self.lease = Lease(slot, None, ready)
        return True

    def choose(self, hidden: np.ndarray) -> Chosen:
        """The next token, from the hidden state float32 [width] after all there are."""
        return self.text.chooser.choose(hidden, position=len(self.text.tokens))

    def examine(self, winner: tuple[int, Read], hidden: np.ndarray) -> Chosen:
        """The next token, where that is known to be the head's greatest, with what was read for it."""
        return self.text.chooser.examine(Draw(*winner), hidden, position=len(self.text.tokens))

    def tell(self, event: Event) -> None:
        """Send an event; a listener that fails is treated as one that left."""
        try:
            self.on_event(event)
        except Exception:
            self.cancelled = True

    def lap(self) -> float:
        """Seconds since the last lap, or since the request was submitted."""
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        return seconds
