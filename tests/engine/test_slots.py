import numpy as np
import pytest
from engine.fakes import FakeDecoder
from hypothesis import given
from hypothesis import strategies as st

from shortlist.engine.slots import Slots, common_start


def slots(number=2, limit=None, context=100):
    return Slots(FakeDecoder(), number, context, limit)


def fill(lease, tokens):
    """What a job does with its slot."""
    if lease.donor is not None:
        lease.slot.cache.take_over(lease.donor.cache, lease.shared)
    FakeDecoder().forward(np.array(tokens[lease.slot.cache.length :]), lease.slot.cache)
    lease.slot.tokens = tokens
    assert lease.slot.cache.tokens == tokens


@given(st.lists(st.integers(0, 1), max_size=20), st.lists(st.integers(0, 1), max_size=20))
def test_the_common_start_is_where_the_first_difference_is(first, second):
    expected = 0
    while expected < min(len(first), len(second)) and first[expected] == second[expected]:
        expected += 1
    assert common_start(first, second) == expected


def test_the_limit_covers_what_texts_may_grow_to():
    lent = slots(number=3, limit=100)
    assert lent.lend([1], 60) is not None
    assert lent.lend([2], 41) is None
    assert lent.lend([2], 40) is not None
    assert lent.lend([3], 1) is None
    assert lent.used == 100


def test_the_default_limit_is_the_context_of_each():
    assert slots(number=3).limit == 300


def test_a_finished_text_is_continued_in_place():
    lent = slots()
    first = lent.lend([1, 2, 3, 4], 20)
    fill(first, [1, 2, 3, 4])
    lent.give_back(first.slot)
    again = lent.lend([1, 2, 3, 4, 5, 6], 20)
    assert (again.slot, again.donor, again.shared) == (first.slot, None, 4)
    assert again.slot.cache.tokens == [1, 2, 3, 4]


def test_a_start_that_others_share_is_copied_so_that_both_stay():
    lent = slots()
    first = lent.lend([1, 2, 3, 4, 5, 6, 7, 8], 20)
    fill(first, [1, 2, 3, 4, 5, 6, 7, 8])
    lent.give_back(first.slot)
    other = lent.lend([1, 2, 3, 9], 20)
    assert other.slot is not first.slot
    assert (other.donor, other.shared) == (first.slot, 3)


def test_a_text_that_is_worked_on_gives_its_start_too():
    lent = slots()
    first = lent.lend([1, 2, 3, 4], 20)
    fill(first, [1, 2, 3, 4])
    other = lent.lend([1, 2, 3, 4], 20)
    assert (other.donor, other.shared) == (first.slot, 3)  # the last token has to be computed


def test_finished_texts_make_room_the_oldest_first():
    lent = slots(number=3, limit=100)
    leases = [lent.lend([i] * 30, 30) for i in (1, 2, 3)]
    for i, lease in enumerate(leases, start=1):
        fill(lease, [i] * 30)
        lent.give_back(lease.slot)
    assert lent.used == 90
    lease = lent.lend([4] * 10, 40)
    assert lease.slot is leases[0].slot
    assert [len(other.slot.tokens) for other in leases[1:]] == [30, 30]
    bigger = lent.lend([5] * 10, 60)
    assert bigger is not None
    assert lent.used == 100


class Borrower:
    """Borrows and gives back at random, checking every loan."""

    def __init__(self, number, limit):
        self.lent = slots(number, limit, context=limit)
        self.leases = []
        self.limit = limit

    def borrow(self, tokens, length):
        lease = self.lent.lend(tokens, length)
        if lease is None:
            promised = sum(each.slot.reserved for each in self.leases)
            assert len(self.leases) == len(self.lent._slots) or promised + length > self.limit
            return
        assert all(lease.slot is not other.slot for other in self.leases)
        assert lease.shared < len(tokens)
        fill(lease, tokens)
        self.leases.append(lease)


@given(st.data())
def test_slots_are_never_lent_twice_nor_beyond_the_limit(data):
    borrower = Borrower(data.draw(st.integers(1, 4)), limit=60)
    for _ in range(data.draw(st.integers(1, 25))):
        if borrower.leases and data.draw(st.booleans()):
            place = data.draw(st.integers(0, len(borrower.leases) - 1))
            borrower.lent.give_back(borrower.leases.pop(place).slot)
        else:
            tokens = data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=20))
            borrower.borrow(tokens, len(tokens) + data.draw(st.integers(1, 40)))
        assert borrower.lent.used <= 60


def test_a_slot_that_held_another_text_starts_empty():
    lent = slots(number=1)
    first = lent.lend([1, 2, 3], 20)
    fill(first, [1, 2, 3])
    lent.give_back(first.slot)
    other = lent.lend([7, 8], 20)
    assert other.slot.cache.length == 0


@pytest.mark.parametrize(("lost", "in_place"), [(2, True), (3, False)])
def test_a_finished_text_is_continued_in_place_where_a_fourth_is_lost_at_most(lost, in_place):
    lent = slots()
    text = list(range(8 + lost))
    first = lent.lend(text, 20)
    fill(first, text)
    lent.give_back(first.slot)
    other = lent.lend([*text[:8], 99, 99], 20)
    assert (other.slot is first.slot) == in_place
    assert other.shared == 8
    assert (other.donor is None) == in_place


def test_a_text_that_is_worked_on_is_never_continued_in_place():
    lent = slots(number=1)
    first = lent.lend([1, 2, 3, 4], 20)
    fill(first, [1, 2, 3, 4])
    assert lent.lend([1, 2, 3, 4, 5], 20) is None


def test_a_start_is_taken_in_place_where_there_is_no_room_for_a_copy():
    lent = slots(number=3, limit=30)
    text = list(range(16))
    first = lent.lend(text, 16)
    fill(first, text)
    lent.give_back(first.slot)
    other = lent.lend([*text[:8], 99], 15)
    assert (other.slot, other.donor, other.shared) == (first.slot, None, 8)
    assert other.slot.cache.tokens == text[:8]
    assert lent.used == 15


def test_a_start_is_copied_where_there_is_just_room_for_it():
    lent = slots(number=3, limit=30)
    text = list(range(16))
    first = lent.lend(text, 16)
    fill(first, text)
    lent.give_back(first.slot)
    other = lent.lend([*text[:8], 99], 14)
    assert (other.donor, other.shared) == (first.slot, 8)
    assert lent.used == 30


def test_the_longest_common_start_counts():
    lent = slots(number=3)
    for text in ([1, 2, 9, 9, 9, 9], [1, 2, 3, 9, 9, 9]):
        fill(lent.lend(text, 20), text)
    other = lent.lend([1, 2, 3, 4], 20)
    assert other.shared == 3
    assert other.donor.tokens == [1, 2, 3, 9, 9, 9]


def test_a_slot_that_is_given_back_counts_for_what_it_holds():
    lent = slots()
    lease = lent.lend([1, 2, 3], 50)
    assert lent.used == 50
    FakeDecoder().forward(np.array([1, 2]), lease.slot.cache)  # it was cancelled before the third
    lent.give_back(lease.slot)
    assert lent.used == 2
    assert lease.slot.tokens == [1, 2]
    assert not lease.slot.lent


@pytest.mark.parametrize(
    ("number", "context", "affordable", "limit"),
    [
        (3, 100, 250, 250),  # as many positions as memory is for
        (3, 100, 300, 300),
        (3, 100, 400, 300),  # each its context
        (3, 100, 50, 100),  # one text at least
    ],
)
def test_the_default_limit_is_what_memory_is_for(monkeypatch, number, context, affordable, limit):
    monkeypatch.setattr("shortlist.engine.slots.DEFAULT_BYTES", affordable * 4 + 3)
    assert slots(number, context=context).limit == limit


def test_memory_is_for_two_gibibytes_by_default():
    assert slots(number=2, context=2**29).limit == 2**29  # of 4 bytes each
