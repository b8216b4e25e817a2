"""Rank and selector come from data: no winner is lost on it, and the cheapest rank is known by its bytes."""

from dataclasses import replace

import numpy as np
import pytest

from shortlist.estimators.low_rank import LowRank
from shortlist.fit.choose import tail_quantile, weigh_ranks
from shortlist.fit.own_text import write_passages


@pytest.fixture
def fitted(decoder, tokenizer):
    hidden, _ = write_passages(decoder, tokenizer, 900, lambda _: None)
    widest = LowRank(64, eight_bit=32)
    return decoder.head_rows, widest, widest.fit(decoder.head_rows, hidden[:700]), hidden[700:]


def test_selector_loses_no_winner_and_bytes_are_what_the_selector_reads(fitted):
    rows, widest, state, hidden = fitted
    shares = []
    options = weigh_ranks(rows, widest, state, [32, 64], hidden, shares.append)
    assert [option.rank for option in options] == [32, 64]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    for option in options:
        estimator, cut = replace(widest, rank=option.rank), widest.truncate(state, option.rank)
        read = []
        for query in hidden:
            exact = rows.matvec(query)
            shortlist = option.selector.select(estimator.score(cut, query), exact.__getitem__)
            assert exact.argmax() in shortlist.indices
            read.append(shortlist.rows_read)
        assert option.estimate_bytes == estimator.bytes_per_query(rows.rows, rows.cols)
        everywhere = np.array(read) == rows.rows
        assert option.picked_bytes == pytest.approx(
            np.mean(np.where(everywhere, 0, read)) * rows.upper_row_bytes, rel=0.1
        )
        assert option.swept_bytes == pytest.approx(
            np.mean(everywhere) * rows.rows * rows.upper_row_bytes, rel=0.2
        )  # the choice rounds queries to 8 bits, so a list may be just too long for one and not for the other


def test_a_wider_rank_needs_fewer_rows(fitted):
    rows, widest, state, hidden = fitted
    narrow, wide = weigh_ranks(rows, widest, state, [32, 64], hidden, lambda _: None)
    assert wide.picked_bytes + wide.swept_bytes < narrow.picked_bytes + narrow.swept_bytes
    assert wide.estimate_bytes > narrow.estimate_bytes


@pytest.mark.parametrize("miss_rate", [1e-3, 1e-4])
def test_tail_quantile_is_near_the_truth_for_an_exponential_tail(miss_rate):
    rng = np.random.default_rng(0)
    found = [tail_quantile(np.maximum(rng.exponential(1.0, 512) - 1, 0), miss_rate) for _ in range(200)]
    assert np.median(found) == pytest.approx(-np.log(miss_rate) - 1, rel=0.1)


def test_tail_quantile_is_never_below_what_was_seen():
    assert tail_quantile(np.array([0.0] * 500 + [5.0]), 0.01) == 5.0
    assert tail_quantile(np.zeros(500), 1e-4) == 0.0
