"""KV memory of several texts: slots that are lent to them, and what finished ones leave behind."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from shortlist import _native
from shortlist.model.decoder import Decoder

DEFAULT_BYTES = 2 << 30

IN_PLACE = 4
"""A finished text is continued in its own slot, rather than in a copy, where at most a fourth as much is lost
of it as is shared."""


@dataclass(eq=False)
class Slot:
    """One KV cache and the text in it.

    Parameters
    ----------
    cache
    tokens
        What the cache holds, and what it will while the slot is lent.
    reserved
        Positions that are counted for it: while it is lent all that the text may grow to, then what it holds.
    lent
    returned
        A number that grows with time.
    """

    cache: _native.Cache
    tokens: Sequence[int] = ()
    reserved: int = 0
    lent: bool = False
    returned: int = 0


@dataclass(frozen=True)
class Lease:
    """A slot for a text, and the start of the text that another slot has or is computing.

    Parameters
    ----------
    slot
    donor
        Where the shared tokens come from; None: they are in the slot already, or nothing is shared.
    shared
        Leading tokens.
    """

    slot: Slot
    donor: Slot | None
    shared: int


class Slots:
    """A number of slots with a limit to the positions that they hold together.

    A text gets a slot only when all that it may grow to fits beside what the others may, so none runs out of
    memory on its way. What finished texts left makes room, that which was left longest ago first.

    Parameters
    ----------
    decoder
    number
        Of slots.
    context
        Most positions of one text.
    limit
        Positions of all slots together. Default: the context for each, as far as `DEFAULT_BYTES` go, and for
        one at least.
    """

    def __init__(self, decoder: Decoder, number: int, context: int, limit: int | None = None):
        self._slots = [Slot(decoder.new_cache(context)) for _ in range(number)]
        affordable = max(context, DEFAULT_BYTES // self._slots[0].cache.token_bytes)
        self.limit = limit or min(number * context, affordable)
        self._clock = count(1)

    @property
    def used(self) -> int:
        """Positions that are counted now, of texts that are worked on and of finished ones."""
        return sum(slot.reserved for slot in self._slots)

    def lend(self, tokens: Sequence[int], length: int) -> Lease | None:
        """A slot for a text, or None while there is none.

        Parameters
        ----------
        tokens
            Its start, one at least.
        length
            That it may grow to, at most the limit.
        """
        free = sorted((slot for slot in self._slots if not slot.lent), key=lambda slot: slot.returned)
        lent = sum(slot.reserved for slot in self._slots if slot.lent)
        if not free or lent + length > self.limit:
            return None
        donor, shared = self._donor(tokens)
        slot = self._place(free, donor, shared)
        kept = [each for each in free if each is not slot]
        for each in sorted(kept, key=lambda each: each is donor):
            if sum(each.reserved for each in kept) <= self.limit - lent - length:
                break
            if each is donor:  # no room for a copy
                _empty(slot)
                slot = each
            else:
                _empty(each)
        if slot is donor:
            slot.cache.discard(shared)
            donor = None
        else:
            _empty(slot)
        slot.tokens, slot.reserved, slot.lent = tokens, length, True
        return Lease(slot, donor, shared)

    def _place(self, free: Sequence[Slot], donor: Slot | None, shared: int) -> Slot:
        """Which of the free slots, oldest first, a text gets."""
        if donor and not donor.lent and (len(donor.tokens) - shared) * IN_PLACE <= shared:
            return donor
        return next((slot for slot in free if slot is not donor), free[0])

    def give_back(self, slot: Slot) -> None:
        """End a loan; what the slot holds stays as long as there is room."""
        slot.tokens = list(slot.tokens[: slot.cache.length])
        slot.reserved = len(slot.tokens)
        slot.lent = False
        slot.returned = next(self._clock)

    def _donor(self, tokens: Sequence[int]) -> tuple[Slot | None, int]:
        """The slot with the longest common start, and its length; the last token must always be computed."""
        best, longest = None, 0
        for slot in self._slots:
            shared = min(common_start(slot.tokens, tokens), len(tokens) - 1)
            if shared > longest:
                best, longest = slot, shared
        return best, longest


def _empty(slot: Slot) -> None:
    slot.cache.discard(0)
    slot.tokens, slot.reserved = (), 0


def common_start(first: Sequence[int], second: Sequence[int]) -> int:
    """How many leading tokens are the same."""
    low, high = 0, min(len(first), len(second))
    if list(second[:high]) == list(first[:high]):
        return high
    while high - low > 1:  # the first difference lies in [low, high)
        middle = (low + high) // 2
        if list(first[low:middle]) == list(second[low:middle]):
            low = middle
        else:
            high = middle
    return low
