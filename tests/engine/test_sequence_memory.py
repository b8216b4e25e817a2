"""A sequence and its KV memory, step by step and without an engine."""

import numpy as np
import pytest
from engine.fakes import FakeCache, fake_model

from shortlist.engine.options import GenerationOptions
from shortlist.engine.slots import Lease, Slot

PROMPT = [1, 2, 3, 4, 5, 6]


def held(*tokens, text=None, lent=True):
    """A slot whose cache holds some tokens, the first of a text that may be longer."""
    cache = FakeCache(100)
    cache.tokens = list(tokens)
    return Slot(cache, text if text is not None else list(tokens), lent=lent)  # pyright: ignore[reportArgumentType]


def sequence_for(prompt, *, donor=None, shared=0, max_tokens=10):
    sequence = fake_model().prepare(prompt, GenerationOptions(max_tokens=max_tokens))
    sequence.lease = Lease(held(), donor, shared)
    return sequence


def took(sequence):
    """What it has in its slot, which is also what it says that it did not compute."""
    assert sequence.lease.donor is None
    assert sequence.generation.stats.reused_tokens == sequence.lease.shared == sequence.computed
    return sequence.slot.cache.tokens


def test_a_request_begins_without_anything():
    sequence = fake_model().prepare(PROMPT, GenerationOptions())
    assert (sequence.lease, sequence.cancelled, sequence.progress, sequence.timings.total) == (
        None,
        False,
        False,
        0,
    )
    with pytest.raises(AssertionError):
        sequence.slot  # noqa: B018


def test_without_a_donor_there_is_nothing_to_wait_for():
    sequence = sequence_for(PROMPT)
    assert sequence.take_shared()
    assert sequence.computed == 0


def test_a_start_is_copied_when_the_donor_has_computed_it():
    donor = held(1, 2, text=PROMPT)
    sequence = sequence_for([1, 2, 3, 4, 9], donor=donor, shared=4)
    assert not sequence.take_shared()
    donor.cache.tokens = [1, 2, 3]
    assert not sequence.take_shared()
    assert sequence.computed == 0
    donor.cache.tokens = [1, 2, 3, 4]
    assert sequence.take_shared()
    assert took(sequence) == [1, 2, 3, 4]


def test_no_more_is_copied_than_is_shared():
    sequence = sequence_for(PROMPT, donor=held(*PROMPT), shared=5)
    assert sequence.take_shared()
    assert took(sequence) == [1, 2, 3, 4, 5]


def test_a_donor_that_ended_early_gives_what_it_has():
    sequence = sequence_for(PROMPT, donor=held(1, 2, text=PROMPT, lent=False), shared=5)
    assert sequence.take_shared()
    assert took(sequence) == [1, 2]


@pytest.mark.parametrize("computed", [2, 3, 6])
def test_a_donor_that_was_lent_anew_gives_what_its_new_text_still_shares(computed):
    other = [1, 2, 7, 7, 7, 7]
    sequence = sequence_for(PROMPT, donor=held(*other[:computed], text=other), shared=5)
    assert sequence.take_shared()
    assert took(sequence) == [1, 2]


def test_a_donor_that_was_lent_anew_is_waited_for_as_far_as_it_still_shares():
    other = [1, 2, 7, 7, 7, 7]
    donor = held(1, text=other)
    sequence = sequence_for(PROMPT, donor=donor, shared=5)
    assert not sequence.take_shared()
    donor.cache.tokens = other[:2]
    assert sequence.take_shared()
    assert took(sequence) == [1, 2]


def test_a_donor_that_was_lent_to_a_text_without_anything_in_common_gives_nothing():
    sequence = sequence_for(PROMPT, donor=held(8, 8, 8, 8, 8, 8), shared=5)
    assert sequence.take_shared()
    assert took(sequence) == []


def test_what_is_left_to_compute():
    sequence = sequence_for(PROMPT)
    sequence.slot.cache.tokens = [1, 2]
    assert (sequence.computed, sequence.remaining) == (2, 4)
    tokens = sequence.next_tokens(3)
    assert (tokens.tolist(), tokens.dtype) == ([3, 4, 5], np.dtype(np.int32))


def test_the_length_does_not_grow_with_the_answer():
    sequence = sequence_for(PROMPT, max_tokens=10)
    assert (sequence.length, sequence.decodes) == (16, False)
    sequence.tokens += [7, 8]
    sequence.generation.tokens += [7, 8]
    assert (sequence.length, sequence.decodes) == (
        16,
        False,
    )  # its memory was taken, so it is in prefill again
    sequence.slot.cache.tokens = [*PROMPT, 7]
    assert (sequence.length, sequence.decodes) == (16, True)


def test_a_listener_that_fails_is_one_that_left():
    told = []
    sequence = sequence_for(PROMPT)
    sequence.on_event = told.append
    sequence.emit("event")  # pyright: ignore[reportArgumentType]
    assert (told, sequence.cancelled) == (["event"], False)
    sequence.on_event = lambda event: 1 / 0
    sequence.emit("event")  # pyright: ignore[reportArgumentType]
    assert sequence.cancelled


def test_laps_follow_on_each_other(monkeypatch):
    ticks = iter([10.0, 12.0, 15.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    sequence = sequence_for(PROMPT)
    assert (sequence.lap(), sequence.lap()) == (2.0, 3.0)
