"""The cache that is brought to the text that is asked for."""

import numpy as np
import pytest
from engine.fakes import FakeDecoder

from shortlist.engine.session import Session


@pytest.fixture
def decoder():
    return FakeDecoder()


def computed(session, decoder, tokens):
    """How many tokens were reused, and which were computed."""
    decoder.forwarded.clear()
    hidden, reused = session.extend(tokens)
    assert np.array_equal(hidden, decoder._state(tokens).astype(np.float32))
    return reused, list(decoder.forwarded)


def test_only_what_the_cache_does_not_hold_is_computed(decoder):
    session = Session(decoder, 100)
    assert computed(session, decoder, [1, 2, 3]) == (0, [1, 2, 3])
    assert computed(session, decoder, [1, 2, 3, 4]) == (3, [4])
    assert computed(session, decoder, [1, 2, 9, 4]) == (2, [9, 4])
    assert computed(session, decoder, [7]) == (0, [7])


def test_the_last_token_is_always_computed(decoder):
    session = Session(decoder, 100)
    computed(session, decoder, [1, 2, 3])
    assert computed(session, decoder, [1, 2, 3]) == (2, [3])
    assert computed(session, decoder, [1, 2]) == (1, [2])
    assert computed(session, decoder, [1]) == (0, [1])


def test_an_interrupted_text_is_reused_as_far_as_it_was_read(decoder):
    session = Session(decoder, 100)
    decoder.interrupt_after = 2
    with pytest.raises(KeyboardInterrupt):
        session.extend([1, 2, 3, 4])
    assert computed(session, decoder, [1, 2, 3, 4]) == (2, [3, 4])


def test_how_far_a_text_is_read_counts_what_was_there(decoder):
    session = Session(decoder, 100)
    session.extend([1, 2])
    told = []
    session.extend([1, 2, 3, 4, 5], on_read=lambda done, total: told.append((done, total)))
    assert told == [(5, 5)]


def test_the_cache_holds_the_context_and_the_lock_is_free(decoder):
    session = Session(decoder, 3)
    session.extend([1, 2, 3])
    assert not session.lock.locked()
    assert session.layer_bytes == decoder.layer_bytes
    assert session.expert_loads is decoder.expert_loads
