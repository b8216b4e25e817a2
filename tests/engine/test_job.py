"""A request and its slot, step by step and without a thread."""

import numpy as np
import pytest
from engine.fakes import FakeCache, fake_model

from shortlist.engine.job import Job
from shortlist.engine.options import GenerationOptions
from shortlist.engine.slots import Lease, Slot

PROMPT = [1, 2, 3, 4, 5, 6]


def held(*tokens, text=None, lent=True):
    """A slot whose cache holds some tokens, the first of a text that may be longer."""
    cache = FakeCache(100)
    cache.tokens = list(tokens)
    return Slot(cache, text if text is not None else list(tokens), lent=lent)  # pyright: ignore[reportArgumentType]


def job_for(prompt, *, donor=None, shared=0, max_tokens=10):
    job = Job(fake_model().prepare(prompt, GenerationOptions(max_tokens=max_tokens)), lambda event: None)
    job.lease = Lease(held(), donor, shared)
    return job


def took(job):
    """What it has in its slot, which is also what it says that it did not compute."""
    assert job.lease.donor is None
    assert job.text.generation.stats.reused_tokens == job.lease.shared == job.computed
    return job.slot.cache.tokens


def test_a_request_begins_without_anything():
    job = Job(fake_model().prepare(PROMPT, GenerationOptions()), print)
    assert (job.lease, job.cancelled, job.progress, job.timings.total) == (None, False, False, 0)
    with pytest.raises(AssertionError):
        job.slot  # noqa: B018


def test_without_a_donor_there_is_nothing_to_wait_for():
    job = job_for(PROMPT)
    assert job.take_shared()
    assert job.computed == 0


def test_a_start_is_copied_when_the_donor_has_computed_it():
    donor = held(1, 2, text=PROMPT)
    job = job_for([1, 2, 3, 4, 9], donor=donor, shared=4)
    assert not job.take_shared()
    donor.cache.tokens = [1, 2, 3]
    assert not job.take_shared()
    assert job.computed == 0
    donor.cache.tokens = [1, 2, 3, 4]
    assert job.take_shared()
    assert took(job) == [1, 2, 3, 4]


def test_no_more_is_copied_than_is_shared():
    job = job_for(PROMPT, donor=held(*PROMPT), shared=5)
    assert job.take_shared()
    assert took(job) == [1, 2, 3, 4, 5]


def test_a_donor_that_ended_early_gives_what_it_has():
    job = job_for(PROMPT, donor=held(1, 2, text=PROMPT, lent=False), shared=5)
    assert job.take_shared()
    assert took(job) == [1, 2]


@pytest.mark.parametrize("computed", [2, 3, 6])
def test_a_donor_that_was_lent_anew_gives_what_its_new_text_still_shares(computed):
    other = [1, 2, 7, 7, 7, 7]
    job = job_for(PROMPT, donor=held(*other[:computed], text=other), shared=5)
    assert job.take_shared()
    assert took(job) == [1, 2]


def test_a_donor_that_was_lent_anew_is_waited_for_as_far_as_it_still_shares():
    other = [1, 2, 7, 7, 7, 7]
    donor = held(1, text=other)
    job = job_for(PROMPT, donor=donor, shared=5)
    assert not job.take_shared()
    donor.cache.tokens = other[:2]
    assert job.take_shared()
    assert took(job) == [1, 2]


def test_a_donor_that_was_lent_to_a_text_without_anything_in_common_gives_nothing():
    job = job_for(PROMPT, donor=held(8, 8, 8, 8, 8, 8), shared=5)
    assert job.take_shared()
    assert took(job) == []


def test_what_is_left_to_compute():
    job = job_for(PROMPT)
    job.slot.cache.tokens = [1, 2]
    assert (job.computed, job.remaining) == (2, 4)
    tokens = job.next_tokens(3)
    assert (tokens.tolist(), tokens.dtype) == ([3, 4, 5], np.dtype(np.int32))


def test_the_length_does_not_grow_with_the_answer():
    job = job_for(PROMPT, max_tokens=10)
    assert (job.length, job.writes) == (16, False)
    job.text.tokens += [7, 8]
    job.text.generation.tokens += [7, 8]
    assert (job.length, job.writes) == (16, True)


def test_a_listener_that_fails_is_one_that_left():
    told = []
    job = job_for(PROMPT)
    job.on_event = told.append
    job.tell("event")  # pyright: ignore[reportArgumentType]
    assert (told, job.cancelled) == (["event"], False)
    job.on_event = lambda event: 1 / 0
    job.tell("event")  # pyright: ignore[reportArgumentType]
    assert job.cancelled


def test_laps_follow_on_each_other(monkeypatch):
    ticks = iter([10.0, 12.0, 15.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    job = job_for(PROMPT)
    assert (job.lap(), job.lap()) == (2.0, 3.0)
