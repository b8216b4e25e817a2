"""Low rank: fitted to the queries it beats the plain SVD, and its spread counts all that is lost."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shortlist.errors import UsageError
from shortlist.estimators.directions import METRICS, directions, second_moment
from shortlist.estimators.low_rank import LowRank, decode

WIDTH = 96


def problem(seed=0, samples=800, decay=0.01):
    rng = np.random.default_rng(seed)
    mixing = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0] * np.geomspace(1, decay, WIDTH)[:, None]
    queries = (rng.standard_normal((samples, WIDTH)) @ mixing).astype(np.float32)
    table = rng.standard_normal((200, WIDTH)).astype(np.float32)
    return table, queries


def error(estimator, table, fit, test):
    return np.sqrt(np.mean((estimator.score(estimator.fit(table, fit), test).values - test @ table.T) ** 2))


def test_queries_metric_beats_plain_svd_on_queries_it_has_not_seen():
    table, queries = problem()
    fit, test = queries[:600], queries[600:]
    aware = error(LowRank(32), table, fit, test)
    plain = error(LowRank(32, metric="identity"), table, fit, test)
    assert aware < 0.5 * plain


def test_what_knows_queries_and_table_errs_least():
    table, queries = problem()
    fit, test = queries[:600], queries[600:]
    lopsided = table * np.geomspace(1, 0.1, WIDTH, dtype=np.float32)
    by_metric = {
        m: error(LowRank(24, metric=m), lopsided, fit, test)
        for m in ("queries", "leanvec", "pca", "identity")
    }
    assert list(by_metric) == sorted(by_metric, key=by_metric.__getitem__), by_metric


def test_leanvec_is_no_worse_than_either_of_what_it_blends():
    table, queries = problem()
    lopsided = table * np.geomspace(1, 0.01, WIDTH, dtype=np.float32)
    gram = (lopsided.T @ lopsided).astype(np.float64)
    covariance = second_moment(queries)

    def lost(metric):
        basis, _ = directions(metric, gram, queries, 24)
        vectors = np.linalg.qr(basis[:, :24])[0]
        rest = np.eye(WIDTH) - vectors @ vectors.T
        return np.trace(rest @ covariance @ rest @ gram)

    assert lost("leanvec") <= min(lost("pca"), lost("identity")) * (1 + 1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_projection_undoes_the_basis(metric):
    table, queries = problem()
    basis, projection = directions(metric, (table.T @ table).astype(np.float64), queries, 24)
    np.testing.assert_allclose(basis @ projection, np.eye(WIDTH), atol=1e-8)


def test_error_is_that_of_the_best_low_rank_product():
    table, queries = problem(samples=500)
    scores = queries @ table.T
    best = np.sqrt(np.sum(np.linalg.svd(scores, compute_uv=False)[48:] ** 2) / scores.size)
    assert error(LowRank(48), table, queries, queries) == pytest.approx(best, rel=0.05)


def test_higher_rank_errs_less_and_says_so():
    table, queries = problem()
    states = [(LowRank(rank), LowRank(rank).fit(table, queries)) for rank in (16, 32, 64)]
    errors = [np.abs(e.score(s, queries).values - queries @ table.T).mean() for e, s in states]
    residuals = [s["residual"].mean() for _, s in states]
    assert errors == sorted(errors, reverse=True)
    assert residuals == sorted(residuals, reverse=True)


def test_truncated_state_is_the_state_of_the_lower_rank():
    table, queries = problem()
    wide, narrow = LowRank(64), LowRank(32)
    cut, fitted = wide.truncate(wide.fit(table, queries), 32), narrow.fit(table, queries)
    narrow.check(cut, 200, WIDTH)
    for name in ("projection", "codes", "scales"):
        np.testing.assert_array_equal(cut[name], fitted[name])
    np.testing.assert_allclose(cut["residual"], fitted["residual"], rtol=0.01)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-12, 1e-6, 1.0, 1e4, 1e12]), st.integers(1, WIDTH - 1))
def test_rounding_is_counted_whatever_the_scale_of_the_table(seed, scale, rank):
    table, queries = problem(seed, samples=64)
    table *= np.float32(scale)
    table[:3] = 0
    estimator = LowRank(rank)
    state = estimator.fit(table, queries)
    assert all(np.isfinite(array).all() for array in state.values())
    assert np.abs(state["codes"]).max() <= 127
    assert not state["residual"][:3].any()
    projected = table @ np.linalg.pinv(state["projection"].astype(np.float64))
    wanted = np.linalg.norm(projected - np.pad(decode(state), ((0, 0), (0, WIDTH - rank))), axis=1)
    np.testing.assert_allclose(state["residual"], wanted, rtol=0.02, atol=1e-4 * wanted.max())


def test_without_the_spread_of_each_query_only_what_is_kept_is_stored():
    table, queries = problem(decay=0.3)  # where the ridge is a small part of what is cut off
    lean, whole = LowRank(64, spread_per_query=False), LowRank(64)
    ours, theirs = (e.score(e.fit(table, queries), queries) for e in (lean, whole))
    np.testing.assert_allclose(ours.values, theirs.values, atol=1e-5)  # sums of other lengths round otherwise
    assert ours.reach()[0, 0] == pytest.approx(np.sqrt(np.mean(theirs.reach()[:, 0] ** 2)), rel=0.1)
    cut = lean.truncate(lean.fit(table, queries), 32)
    replace(lean, rank=32).check(cut, 200, WIDTH)
    saved = whole.bytes_per_query(200, WIDTH) - lean.bytes_per_query(200, WIDTH)
    assert saved == 4 * WIDTH * (WIDTH - 64)


def test_what_4_bits_lose_is_counted_and_cut_off_with_the_rank():
    table, queries = problem(decay=1e-3)
    fine, mixed = LowRank(64), LowRank(64, eight_bit=32)
    whole, state = fine.fit(table, queries), mixed.fit(table, queries)
    np.testing.assert_array_equal(state["codes"], whole["codes"][:, :32])
    rounding = np.linalg.norm(decode(state) - decode(whole), axis=1)
    assert rounding.min() > 0
    np.testing.assert_allclose(state["residual"] ** 2, whole["residual"] ** 2 + rounding**2, rtol=0.1)
    cut = mixed.truncate(state, 32)
    replace(mixed, rank=32).check(cut, 200, WIDTH)
    np.testing.assert_allclose(cut["residual"], fine.truncate(whole, 32)["residual"], rtol=0.1)
    saved = fine.bytes_per_query(200, WIDTH) - mixed.bytes_per_query(200, WIDTH)
    assert saved == 200 * 16


def test_few_queries_are_enough_to_fit():
    table, queries = problem(samples=5)
    assert np.isfinite(LowRank(32).fit(table, queries)["projection"]).all()


def test_gradients_reach_the_query():
    torch = pytest.importorskip("torch")
    table, queries = problem()
    estimator = LowRank(32)
    state = estimator.fit(torch.from_numpy(table), torch.from_numpy(queries))
    query = torch.from_numpy(queries[0]).clone().requires_grad_()
    estimate = estimator.score(state, query)
    (gradient,) = torch.autograd.grad(estimate.upper()[7], query)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("rank", [0, -1])
def test_rank_must_be_positive(rank):
    with pytest.raises(UsageError, match="at least 1 dimension"):
        LowRank(rank)


def test_requests_that_cannot_be_met():
    table, queries = problem()
    with pytest.raises(UsageError, match="wider than 96"):
        LowRank(WIDTH).fit(table, queries)
    with pytest.raises(UsageError, match="metric"):
        replace(LowRank(), metric="cosine")
    with pytest.raises(UsageError, match="cannot have the shape"):
        LowRank(32).fit(table, queries[:, :50])
    with pytest.raises(UsageError, match="all zero"):
        LowRank(32).fit(table, queries * 0)
    with pytest.raises(UsageError, match="whole 32s of dimensions"):
        LowRank(64, eight_bit=40)
    with pytest.raises(UsageError, match="multiples of 32"):
        LowRank(64).truncate(LowRank(64).fit(table, queries), 48)
