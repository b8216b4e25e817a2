"""What holds for every estimator: a new one is a row in ESTIMATORS_UNDER_TEST."""

import numpy as np
import pytest

from shortlist.errors import UsageError
from shortlist.estimators import (
    ESTIMATORS,
    BitPlanes,
    Codebook,
    Exact,
    Int4Copy,
    LowRank,
    LowRankSparse,
    Magnitude,
    MixedWidth,
    Neighbour,
    Quantized,
    Random,
    SharedCodebook,
    Sketch,
)
from shortlist.estimators.base import some_rows, table_chunks
from shortlist.selectors import TopK

UNITS, WIDTH = 300, 128
ESTIMATORS_UNDER_TEST = [
    pytest.param(BitPlanes(), id="bit_planes"),
    pytest.param(LowRank(rank=64), id="low_rank"),
    pytest.param(LowRank(rank=64, spread_per_query=False), id="low_rank with a mean spread"),
    pytest.param(LowRank(rank=40), id="low_rank with part of a group"),
    pytest.param(LowRank(rank=64, eight_bit=32), id="low_rank in 8 and 4 bits"),
    pytest.param(LowRank(rank=64, metric="identity"), id="plain SVD"),
    pytest.param(LowRank(rank=64, metric="pca"), id="PCA"),
    pytest.param(LowRank(rank=64, metric="leanvec"), id="LeanVec"),
    pytest.param(Quantized(bits=4), id="quantized"),
    pytest.param(Quantized(bits=2, scales="input"), id="quantized by input channel"),
    pytest.param(Quantized(bits=3, scales="row", code="shift"), id="quantized by shifts"),
    pytest.param(Sketch(rank=96), id="sketch"),
    pytest.param(Codebook(part=1), id="codebook"),
    pytest.param(Codebook(part=2, rank=96), id="codebook of a projection"),
    pytest.param(SharedCodebook(part=1), id="shared_codebook"),
    pytest.param(SharedCodebook(part=3, dimensions=2), id="shared_codebook in fewer dimensions"),
    pytest.param(LowRankSparse(rank=48, outliers=6), id="low_rank_sparse"),
    pytest.param(MixedWidth((80, 60, 40)), id="mixed_width"),
    pytest.param(Exact(), id="exact"),
    pytest.param(Int4Copy(), id="int4_copy"),
    pytest.param(Random(), id="random"),
    pytest.param(Neighbour(), id="neighbour"),
]
every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS_UNDER_TEST)
APART = {Magnitude}  # its units are the inputs: tested in a file of its own
LOWEST_CORRELATION = {"sketch": 0.6, "random": -0.1, "neighbour": -0.1}  # others 0.9
# A rounding apart, clusters settle in other places, and another of two equal corrections is taken.
TOLERANCE = {"codebook": 0.3, "shared_codebook": 0.4, "low_rank_sparse": 0.05}


class Packed:
    """Rows that can only be unpacked by index, as the native ones are."""

    def __init__(self, table):
        self.table, (self.rows, self.cols) = table, table.shape
        self.most_at_once = 0

    def unpack(self, indices):
        assert indices.dtype == np.int32
        self.most_at_once = max(self.most_at_once, len(indices))
        return self.table[indices]


@pytest.fixture(scope="module")
def problem():
    """Table, queries to fit and to test: with a few strong directions, as heads and hidden states have."""
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0] * np.geomspace(1, 0.1, WIDTH)[:, None]
    queries = rng.standard_normal((1200, WIDTH)) @ rotation
    table = rng.standard_normal((UNITS, WIDTH)) @ rotation / WIDTH**0.5
    return table.astype(np.float32), queries[:1000].astype(np.float32), queries[1000:].astype(np.float32)


def test_every_estimator_is_tested():
    tested = {type(parameters.values[0]) for parameters in ESTIMATORS_UNDER_TEST}
    assert tested | APART == set(ESTIMATORS.values())
    assert all(kind.name == name for name, kind in ESTIMATORS.items())


@every_estimator
def test_estimates_follow_the_values_and_errors_what_is_said_of_them(estimator, problem, asarray):
    table, fit, test = problem
    state = estimator.fit(asarray(table), asarray(fit))
    estimate = estimator.score(state, asarray(test))
    exact = test @ table.T
    values, reach = np.asarray(estimate.values), np.asarray(estimate.reach())
    assert values.shape == exact.shape
    assert values.dtype == np.float32
    correlation = np.corrcoef(values.ravel(), exact.ravel())[0, 1]
    assert correlation > LOWEST_CORRELATION.get(estimator.name, 0.9)

    assert reach.any() == (estimator.gives is not None)
    assert reach.dtype == np.float32
    if estimator.gives == "confidence":
        deviation = np.sqrt(np.mean(((values - exact) / reach) ** 2))
        assert 0.8 < deviation < 1.25, f"one stated standard deviation is {deviation} in truth"
    if estimator.gives == "bound":
        rounding = 0.02 * np.abs(exact).max()  # of weights and query to 8 bits, which this bound is not about
        assert np.all(np.abs(values - exact) <= reach + rounding)


@every_estimator
def test_one_query_is_scored_as_in_a_batch(estimator, problem, asarray):
    table, fit, test = problem
    state = estimator.fit(asarray(table), asarray(fit))
    batch = estimator.score(state, asarray(test[:5].reshape(5, WIDTH)))
    single = estimator.score(state, asarray(test[3]))
    np.testing.assert_allclose(np.asarray(single.values), np.asarray(batch.values)[3], rtol=1e-4, atol=1e-4)
    wide = np.broadcast_to(np.asarray(batch.reach()), batch.values.shape)
    np.testing.assert_allclose(np.asarray(single.reach()), wide[3], rtol=1e-4)


@every_estimator
def test_numpy_and_torch_agree(estimator, problem):
    torch = pytest.importorskip("torch")
    table, fit, test = problem
    ours = estimator.fit(table, fit)
    theirs = estimator.fit(torch.from_numpy(table), torch.from_numpy(fit))
    values = [
        estimator.score(ours, test).values,
        estimator.score(theirs, torch.from_numpy(test)).values.numpy(),
    ]
    np.testing.assert_allclose(*values, atol=TOLERANCE.get(estimator.name, 0.02))


@every_estimator
def test_packed_table_is_walked_in_chunks(estimator, problem, monkeypatch):
    table, fit, test = problem
    monkeypatch.setattr("shortlist.estimators.base.CHUNK_VALUES", 64 * WIDTH)
    monkeypatch.setattr("shortlist.estimators.codebook.SAMPLE_ROWS", 64)
    monkeypatch.setattr("shortlist.estimators.shared_codebook.SAMPLE", 1280)
    packed, shares = Packed(table), []
    state = estimator.fit(packed, fit, progress=shares.append)
    whole = estimator.fit(table, fit)
    assert packed.most_at_once <= 64
    assert shares == sorted(shares)
    assert shares[-1] == 1
    values = [estimator.score(which, test).values for which in (state, whole)]
    np.testing.assert_allclose(*values, atol=0.02)


@every_estimator
def test_state_is_as_laid_out(estimator, problem, asarray):
    table, fit, _ = problem
    state = estimator.fit(asarray(table), asarray(fit))
    estimator.check(state, UNITS, WIDTH)
    assert estimator.bytes_per_query(UNITS, WIDTH) <= sum(np.asarray(part).nbytes for part in state.values())
    with pytest.raises(ValueError, match="not"):
        estimator.check(state, UNITS + 1, WIDTH)
    with pytest.raises(ValueError, match="has the arrays"):
        estimator.check({**state, "more": table}, UNITS, WIDTH)


@every_estimator
def test_keeping_all_units_loses_none(estimator, problem):
    table, fit, test = problem
    estimate = estimator.score(estimator.fit(table, fit), test[0])
    shortlist = TopK(UNITS).select(estimate, lambda indices: (table @ test[0])[indices])
    np.testing.assert_array_equal(shortlist.indices, np.arange(UNITS))


LADDERS = [
    [LowRank(rank) for rank in (8, 16, 32, 64, 96)],
    [Quantized(bits) for bits in (1, 2, 3, 4)],
    [Sketch(rank) for rank in (8, 32, 128, 512)],
    [Codebook(part) for part in (8, 4, 2, 1)],
    [Codebook(2, rank) for rank in (8, 16, 32)],
    [SharedCodebook(part) for part in (8, 4, 2, 1)],
    [LowRankSparse(16, outliers) for outliers in (1, 8, 32)],
    [MixedWidth((2 * rank, rank)) for rank in (8, 16, 32)],
    [LowRank(16), BitPlanes(), Exact()],
]
WITHOUT_A_BUDGET = {
    Int4Copy,
    Magnitude,
    Neighbour,
    Random,
}  # one cost each; the last two know nothing at first


def test_every_estimator_with_a_budget_has_a_ladder():
    assert {type(step) for ladder in LADDERS for step in ladder} | WITHOUT_A_BUDGET == set(
        ESTIMATORS.values()
    )


@pytest.mark.parametrize("ladder", LADDERS, ids=lambda ladder: ladder[-1].name)
def test_recall_grows_with_bytes(ladder, problem):
    table, fit, test = problem
    wanted = np.argsort(test @ table.T, axis=1)[:, -10:]
    recalls = []
    for estimator in ladder:
        estimated = np.asarray(estimator.score(estimator.fit(table, fit), test).values)
        found = np.argsort(estimated, axis=1)[:, -20:]
        recalls.append(np.mean([np.isin(w, f).mean() for w, f in zip(wanted, found, strict=True)]))
    costs = [estimator.bytes_per_query(10_000, WIDTH) for estimator in ladder]
    assert costs == sorted(costs)
    assert recalls == sorted(recalls), recalls
    assert recalls[-1] > recalls[0] + 0.1


@every_estimator
def test_a_table_of_zeros_has_finite_states_and_scores(estimator, problem):
    table, fit, test = problem
    state = estimator.fit(np.zeros_like(table), fit)
    assert all(np.all(np.isfinite(part)) for part in state.values())
    assert np.all(np.isfinite(estimator.score(state, test).values))


@every_estimator
def test_empty_tables_are_refused(estimator):
    with pytest.raises(UsageError, match="units and width"):
        estimator.fit(np.zeros((0, WIDTH), np.float32), np.ones((3, WIDTH), np.float32))


def test_chunks_cover_the_table_once(monkeypatch):
    monkeypatch.setattr("shortlist.estimators.base.CHUNK_VALUES", 40)
    table = np.arange(70, dtype=np.float32).reshape(7, 10)
    chunks = list(table_chunks(table, like=table))
    assert [len(chunk) for _, chunk in chunks] == [4, 3]
    np.testing.assert_array_equal(np.concatenate([chunk for _, chunk in chunks]), table)


def test_chunks_start_at_multiples(monkeypatch):
    monkeypatch.setattr("shortlist.estimators.base.CHUNK_VALUES", 70)
    table = np.zeros((11, 10), np.float32)
    assert [rows.start for rows, _ in table_chunks(table, like=table, multiple=4)] == [0, 4, 8]


def test_some_rows_are_spread_over_the_table_in_runs():
    assert some_rows(5, 8).tolist() == [0, 1, 2, 3, 4]
    assert some_rows(100, 4).tolist() == [0, 25, 50, 75]
    assert some_rows(100, 8, run=4).tolist() == [0, 1, 2, 3, 48, 49, 50, 51]
