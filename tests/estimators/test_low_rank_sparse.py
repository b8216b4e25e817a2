"""Low rank and outliers: the largest errors are moved out, and nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortlist.errors import UsageError
from shortlist.estimators.low_rank import LowRank
from shortlist.estimators.low_rank_sparse import LowRankSparse, pursue

WIDTH = 64


def problem(outliers):
    rng = np.random.default_rng(0)
    smooth = 3 * rng.standard_normal((200, 8)) @ rng.standard_normal((8, WIDTH))
    spikes = rng.standard_normal((200, WIDTH)) * (rng.random((200, WIDTH)) < outliers / WIDTH) * 10
    return (smooth + spikes).astype(np.float32), rng.standard_normal((500, WIDTH)).astype(np.float32)


def error(estimator, table, queries):
    values = estimator.score(estimator.fit(table, queries), queries).values
    return float(np.sqrt(np.mean((values - queries @ table.T) ** 2)))


def test_outliers_beat_more_dimensions_of_the_same_bytes_where_rows_have_them():
    table, queries = problem(outliers=1)
    assert LowRankSparse(16, 4).bytes_per_query(10**6, WIDTH) <= LowRank(32).bytes_per_query(10**6, WIDTH)
    assert error(LowRankSparse(16, 4), table, queries) < 0.95 * error(LowRank(32), table, queries)


@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_what_is_left_and_what_is_corrected_add_up_and_weigh_ever_less(count, seed):
    rng = np.random.default_rng(seed)
    errors = rng.standard_normal((5, 12)).astype(np.float32)
    errors[0] = 0
    mixing = rng.standard_normal((12, 30)).astype(np.float32)
    metric = mixing @ mixing.T
    weights = [np.sum((errors @ metric) * errors, axis=1)]
    for some in range(1, count + 1):
        places, values, left = pursue(errors, metric, some)
        weights.append(np.sum((left @ metric) * left, axis=1))
        whole = left.copy()
        for row in range(5):
            np.add.at(whole[row], places[row].astype(int), values[row].astype(np.float32))
        np.testing.assert_allclose(whole, errors, atol=1e-5)
    assert np.all(np.diff(weights, axis=0) <= 1e-3 * weights[0].max())


def test_the_first_correction_is_the_best_one():
    rng = np.random.default_rng(0)
    error = rng.standard_normal(12).astype(np.float32)
    mixing = rng.standard_normal((12, 30)).astype(np.float32)
    metric = mixing @ mixing.T
    _, _, left = pursue(error[None], metric, 1)

    def least(place):
        tried = np.tile(error, (2001, 1))
        tried[:, place] -= np.linspace(-5, 5, 2001, dtype=np.float32)
        return np.min(np.sum((tried @ metric) * tried, axis=1))

    found = float((left @ metric @ left.T)[0, 0])
    assert found <= min(least(place) for place in range(12)) * 1.001


def test_options_out_of_range_are_refused():
    with pytest.raises(UsageError, match="1 outlier"):
        LowRankSparse(8, 0)
    with pytest.raises(UsageError, match="wider"):
        LowRankSparse(WIDTH, 4).fit(*problem(1))
