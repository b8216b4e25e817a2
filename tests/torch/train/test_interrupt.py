"""Ctrl-C and SIGTERM as requests."""

import signal
import threading

import pytest

from shortlist.torch.train.interrupt import Interrupt

BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("number", BOTH)
@pytest.mark.parametrize("second", BOTH)
def test_the_first_asks_and_the_second_stops(number, second):
    before = [signal.getsignal(each) for each in BOTH]
    with Interrupt() as interrupt:
        assert not interrupt.requested
        assert interrupt.number is None
        signal.raise_signal(number)
        assert interrupt.requested
        assert interrupt.number == number
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(second)
        assert interrupt.number == number
    assert [signal.getsignal(each) for each in BOTH] == before


def test_what_was_ignored_stays_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            signal.raise_signal(signal.SIGINT)
            assert not interrupt.requested
            signal.raise_signal(signal.SIGTERM)
            assert interrupt.requested
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_are_left_alone():
    seen = []

    def work():
        with Interrupt() as interrupt:
            seen.append((interrupt.requested, *(signal.getsignal(each) for each in BOTH)))

    before = [signal.getsignal(each) for each in BOTH]
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, *before)]
