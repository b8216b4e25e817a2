import time
from types import SimpleNamespace

import pytest

from shortlist.engine.events import Timings
from shortlist.engine.generation import Generation
from shortlist.engine.stats import RunStats
from shortlist.server.usage import Clock, usage, what_was_read
from shortlist.sites.head import Read


def generation(rows, *, tokens=2, full=False, agrees=None, seed=None):
    stats = RunStats("exact", 100, 1000, 5)
    for _ in range(tokens):
        stats.add(0.1, Read(rows, rows * 10), full=full, agrees=agrees)
    return Generation(stats, seed, tokens=list(range(tokens)))


class Observed:
    def observe_parts(self, parts):
        self.parts = parts


def answer(submitted, ended, generation=None, **timings):
    return SimpleNamespace(
        submitted=submitted, ended=ended, timings=Timings(**timings), generation=generation
    )


def test_what_was_read_over_several_texts():
    read = what_was_read(
        [generation(10, agrees=True, seed=3), generation(40, tokens=1, full=True, agrees=False)]
    )
    assert read == {
        "head": "exact",
        "rows_read": 60,
        "rows_share": 60 / 300,
        "bytes_per_token": (2 * 1100 + 1400) / 3,
        "full_draws": 1,
        "audited": 3,
        "agreement": 2 / 3,
        "seeds": [3, None],
    }


def test_nothing_was_read():
    for generations in ([], [generation(10, tokens=0)]):
        read = what_was_read(generations)
        assert (read["rows_read"], read["rows_share"], read["bytes_per_token"]) == (0, None, None)
        assert (read["audited"], read["agreement"]) == (0, None)
    assert what_was_read([])["head"] is None


def test_tokens_as_openai_counts_them():
    observed = Observed()
    now = time.perf_counter()
    answers = [answer(now, now, generation(1, tokens=3)), answer(now, now, generation(1, tokens=4))]
    told = usage(10, 6, answers, Clock(now, now), observed)
    assert told["prompt_tokens"] == 10
    assert told["completion_tokens"] == 7
    assert told["total_tokens"] == 17
    assert told["prompt_tokens_details"] == {"cached_tokens": 6}
    assert told["shortlist"]["timings"] == observed.parts


@pytest.fixture
def at_100(monkeypatch):
    monkeypatch.setattr("time.perf_counter", lambda: 100.0)


def test_the_parts_are_those_of_the_answer_that_ended_last(at_100):
    clock = Clock(arrived=80.0, tokenizing=81.0, scored=2.0)
    first = answer(85.0, 90.0, queue=9.0, prefill=9.0, decode=9.0, sampling=9.0)
    last = answer(86.0, 98.0, queue=1.0, prefill=5.0, decode=4.0, sampling=2.0)
    parts = {
        "queue": 1.0,
        "tokenize": 3.0,  # from 81 to 86, but for the scores
        "prefill": 7.0,  # and the scores
        "decode": 4.0,
        "sampling": 2.0,
        "transport": 3.0,  # one in, two out
    }
    assert clock.parts([first, last]) == clock.parts([last, first]) == parts
    assert sum(parts.values()) == 20.0


def test_the_parts_of_a_request_without_answers(at_100):
    parts = Clock(arrived=80.0, tokenizing=81.0, scored=2.0).parts([])
    assert parts == {
        "queue": 0,
        "tokenize": 17.0,
        "prefill": 2.0,
        "decode": 0,
        "sampling": 0,
        "transport": 1.0,
    }


def test_scores_are_timed(monkeypatch):
    ticks = iter([2.0, 5.0, 7.0, 8.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    clock = Clock(arrived=0.0, tokenizing=1.0)
    for _ in range(2):
        with clock.scoring():
            pass
    assert clock.scored == 3.0 + 1.0
