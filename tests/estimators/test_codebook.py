"""Codebooks: nearest centroids, training that pays, and parts that share the variance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shortlist.errors import UsageError
from shortlist.estimators.codebook import Codebook, balanced, lookup, nearest

WIDTH = 64


def problem(units=1000, seed=0):
    rng = np.random.default_rng(seed)
    mixing = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0] * np.geomspace(1, 0.05, WIDTH)[:, None]
    queries = (rng.standard_normal((800, WIDTH)) @ mixing).astype(np.float32)
    return rng.standard_normal((units, WIDTH)).astype(np.float32), queries


def error(estimator, table, fit, test):
    values = estimator.score(estimator.fit(table, fit), test).values
    return float(np.sqrt(np.mean((values - test @ table.T) ** 2)))


def test_projection_and_clusters_trained_together_beat_plain_codes_of_the_same_bytes():
    table, queries = problem()
    fit, test = queries[:600], queries[600:]
    assert error(Codebook(2, rank=32), table, fit, test) < 0.6 * error(Codebook(4), table, fit, test)


def test_training_together_beats_clusters_on_a_fixed_projection(monkeypatch):
    table, queries = problem()
    together = error(Codebook(4, rank=32), table, queries, queries)
    monkeypatch.setattr("shortlist.estimators.codebook.ROUNDS", 0)
    assert together < error(Codebook(4, rank=32), table, queries, queries)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_codes_are_the_nearest_and_scores_a_sum_of_lookups(seed, part):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((20, 3 * part)).astype(np.float32)
    centroids = rng.standard_normal((3, 16, part)).astype(np.float32)
    codes = nearest(rows, centroids)
    cut = rows.reshape(20, 3, 1, part)
    distances = ((cut - centroids) ** 2).sum(-1)
    picked = np.take_along_axis(distances, codes[..., None].astype(int), axis=-1)[..., 0]
    np.testing.assert_allclose(picked, distances.min(-1), atol=1e-4)

    query = rng.standard_normal(3 * part).astype(np.float32)
    lookups = np.einsum("pcd,pd->pc", centroids, query.reshape(3, part))
    summed = sum(lookups[p, codes[:, p]] for p in range(3))
    np.testing.assert_allclose(lookup(centroids, codes) @ query, summed, atol=1e-4)


def test_few_rows_have_a_centroid_each():
    table, queries = problem(units=15)
    assert error(Codebook(4), table, queries, queries) < 0.01


def test_parts_share_the_variance():
    variances = np.geomspace(1, 1e-4, 24)
    order = balanced(variances, 4)
    assert sorted(order.tolist()) == list(range(24))
    logs = np.log(variances[order]).reshape(6, 4).sum(1)
    assert np.ptp(logs) < 1.5
    assert np.ptp(np.log(variances).reshape(6, 4).sum(1)) > 20


@pytest.mark.parametrize("options", [{"part": 0}, {"part": 4, "rank": 6}, {"part": 4, "rank": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(UsageError, match="codebook"):
        Codebook(**options)


def test_tables_that_cannot_be_cut_are_refused():
    table, queries = problem()
    with pytest.raises(UsageError, match="parts of 3"):
        Codebook(3).fit(table, queries)
    with pytest.raises(UsageError, match="at least as wide"):
        Codebook(4, rank=128).fit(table, queries)
