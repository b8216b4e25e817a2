"""Figures of one generation, from numbers that are known."""

import numpy as np
import pytest

from shortlist.engine.stats import RunStats
from shortlist.sites.head import Read


def stats(draws=3, **values):
    """The first token takes two seconds, others half a second each."""
    values = {"head": "exact", "vocab_size": 100, "layer_bytes": 1000, "prompt_tokens": 8, **values}
    made = RunStats(**values)
    for place in range(draws):
        made.add(0.5 if place else 2.0, Read(10, 200), full=place == 1)
    return made


def test_the_first_token_counts_to_prefill():
    made = stats()
    assert (made.prefill_seconds, made.decode_seconds) == (2.0, 1.0)
    assert (made.draws, made.head_rows, made.head_bytes, made.full_draws) == (3, 30, 600, 1)
    assert made.prefill_tokens_per_s == 8 / 2
    assert made.decode_tokens_per_s == 2 / 1.0
    assert made.bytes_per_token == 1000 + 200
    assert made.head_rows_share == 30 / 300


def test_tokens_that_were_there_were_not_read():
    assert stats(reused_tokens=6).prefill_tokens_per_s == 1.0
    assert stats(reused_tokens=8).prefill_tokens_per_s == 0.0


def test_what_cannot_be_said_is_none():
    nothing = stats(draws=0)
    assert nothing.prefill_tokens_per_s is None
    assert nothing.decode_tokens_per_s is None
    assert nothing.bytes_per_token is None
    assert nothing.head_rows_share is None
    assert nothing.agreement is None
    assert stats(draws=1).decode_tokens_per_s is None
    assert nothing.experts is None


def test_only_audited_tokens_count_for_the_agreement():
    made = stats()
    assert (made.audited, made.agreed) == (0, 0)
    for agrees in (True, None, False, True):
        made.add(0.1, Read(1, 1), full=False, agrees=agrees)
    assert (made.audited, made.agreed, made.agreement) == (3, 2, 2 / 3)


def test_what_json_tells():
    told = stats(reused_tokens=2).to_dict()
    assert told.pop("peak_rss_mb") > 1
    assert told == {
        "head": "exact",
        "prompt_tokens": 8,
        "reused_tokens": 2,
        "prefill_tokens_per_s": 3.0,
        "generated_tokens": 3,
        "decode_tokens_per_s": 2.0,
        "bytes_per_token": 1200.0,
        "head_rows_share": 0.1,
        "full_draws": 1,
        "audited": 0,
        "agreement": None,
    }


def test_experts_are_told_of_the_tokens_that_were_computed(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "shortlist.engine.stats.describe_loads", lambda *arguments: seen.append(arguments) or {"a": 1}
    )
    loads = np.ones((1, 4), np.int64)
    made = stats(reused_tokens=2, expert_loads=loads)
    assert made.experts == {"a": 1}
    assert seen == [(loads, 8 - 2 + 3 - 1)]  # the last token of an answer is not computed
    assert made.to_dict()["experts"] == {"a": 1}


def test_the_peak_of_memory_is_in_megabytes(monkeypatch):
    monkeypatch.setattr("shortlist.engine.stats.peak_rss_bytes", lambda: 3_000_000)
    assert stats().to_dict()["peak_rss_mb"] == pytest.approx(3.0)
