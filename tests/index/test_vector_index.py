"""The index against brute force, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shortlist.errors import UsageError
from shortlist.estimators import BitPlanes, Estimator, LowRank
from shortlist.index import Index
from shortlist.index.row_formats import ROW_FORMATS
from shortlist.index.scorers import EstimatorScorer, scorer_of
from shortlist.index.vector_index import _default_rank

METRICS = ["inner_product", "cosine"]
FORMATS = sorted(ROW_FORMATS)


def normal(shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def structured(count: int, width: int, seed: int) -> np.ndarray:
    """Vectors whose directions differ in variance, as those of real models do."""
    return normal((count, width), seed) * np.float32(0.9) ** np.arange(width, dtype=np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def true_scores(index: Index, vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Scores [queries, vectors] of what is stored: float32 as given, 8-bit rows as the kernel has them."""
    if index.metric == "cosine":
        vectors, queries = unit(vectors), unit(queries)
    if index.rows == "float32":
        return queries @ vectors.T
    rows = ROW_FORMATS["int8"].pack(vectors)
    scores = [rows.matvec(query) for query in queries.astype(np.float32)]
    return np.reshape(scores, (len(queries), len(vectors)))


def assert_best(ids, scores, truth: np.ndarray, k: int) -> None:
    """The scores belong to the ids and are the k largest; which of nearly equal ones may differ."""
    assert ids.shape == scores.shape == (len(truth), k)
    for got_ids, got, values in zip(ids, scores, truth, strict=True):
        assert len(set(got_ids)) == k
        tolerance = 1e-4 * max(1.0, np.abs(values).max())
        np.testing.assert_allclose(got, values[got_ids], rtol=0, atol=tolerance)
        np.testing.assert_allclose(got, np.sort(values)[::-1][:k], rtol=0, atol=tolerance)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=4).filter(any),
    fit_after=st.integers(-1, 3),
    width=st.integers(2, 70),
    metric=st.sampled_from(METRICS),
    rows=st.sampled_from(FORMATS),
    data=st.data(),
)
def test_keep_all_is_brute_force(sizes, fit_after, width, metric, rows, data):
    index = Index(width, metric=metric, rows=rows)
    vectors = normal((sum(sizes), width))
    start = 0
    for number, size in enumerate(sizes):
        index.add(vectors[start : start + size])
        start += size
        if number == fit_after and len(index):
            index.fit()
            assert index.fitted == start
    assert len(index) == len(vectors)
    queries = normal((data.draw(st.integers(0, 5)), width), seed=1)
    k = data.draw(st.integers(1, len(index)))
    assert_best(*index.search(queries, k, keep=1), true_scores(index, vectors, queries), k)


@pytest.mark.parametrize("rows", FORMATS)
@pytest.mark.parametrize("metric", METRICS)
def test_recall_grows_with_keep_and_scores_do_not_change(metric, rows):
    vectors, queries = structured(3000, 64, seed=2), structured(50, 64, seed=3)
    index = Index(64, metric=metric, rows=rows)
    index.add(vectors)
    index.fit(structured(500, 64, seed=4), LowRank(rank=8))
    exact = index.search(queries, 10, keep=1)
    recalls = []
    for keep in (0.004, 0.02, 0.1, 0.5, 1):
        found = index.search(queries, 10, keep)
        shared = [
            np.intersect1d(a, b, return_indices=True) for a, b in zip(found.ids, exact.ids, strict=True)
        ]
        recalls.append(np.mean([len(both) / 10 for both, _, _ in shared]))
        for query, (_, here, there) in enumerate(shared):
            np.testing.assert_array_equal(found.scores[query][here], exact.scores[query][there])
    assert recalls == sorted(recalls)
    assert 0.2 < recalls[0] < 0.99 < recalls[-1] == 1


def test_cosine_is_the_inner_product_of_normalized_vectors():
    vectors, queries = structured(400, 48, seed=5), structured(20, 48, seed=6)
    cosine, inner = Index(48, metric="cosine"), Index(48)
    cosine.add(vectors)
    inner.add(unit(vectors.astype(np.float64)))
    for index, examples in ((cosine, queries), (inner, unit(queries.astype(np.float64)))):
        index.fit(examples, LowRank(rank=16))
    for keep in (0.05, 1):
        found, expected = (
            cosine.search(queries * 3, 5, keep),
            inner.search(unit(queries.astype(np.float64)), 5, keep),
        )
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)


def test_vectors_that_were_added_after_the_fit_are_found():
    index = Index(32)
    index.add(structured(1000, 32, seed=7))
    index.fit(estimator=LowRank(rank=4))
    late = 10 * structured(64, 32, seed=8)  # so long that they win, whatever the estimates of the others are
    for vector in late:
        index.add(vector)
    assert (index.fitted, len(index)) == (1000, 1064)
    found = index.search(late, k=1, keep=0.001)
    np.testing.assert_array_equal(found.ids[:, 0], 1000 + (late @ late.T).argmax(axis=1))
    index.fit()
    assert index.fitted == 1064


def test_adding_one_by_one_leaves_few_parts():
    index = Index(4)
    for vector in normal((100, 4)):
        index.add(vector)
    assert len(index._parts) <= 7
    assert_best(*index.search(normal((2, 4), 1), 3), normal((2, 4), 1) @ normal((100, 4)).T, 3)


@pytest.mark.parametrize(
    "estimator", [LowRank(rank=8), LowRank(rank=40, metric="identity"), BitPlanes()], ids=str
)
def test_any_estimator_scores_as_its_scorer_does(estimator: Estimator):
    vectors, queries = structured(500, 64, seed=9), structured(5, 64, seed=10)
    state = estimator.fit(vectors, queries)
    plain = EstimatorScorer(estimator, state, vectors.shape)(queries)
    fast = scorer_of(estimator, state, vectors.shape)(queries)
    # The native twin rounds a query's code to 8 bits.
    np.testing.assert_allclose(fast, plain, atol=0.02 * np.abs(plain).max())
    index = Index(64)
    index.add(vectors)
    index.fit(queries, estimator)
    assert_best(*index.search(queries, 3, keep=1), queries @ vectors.T, 3)
    recall = np.mean(index.search(queries, 1, keep=0.1).ids == index.search(queries, 1, keep=1).ids)
    assert recall >= 0.8


def test_one_query_answers_without_the_first_axis():
    index = Index(3)
    index.add([[1, 0, 0], [0, 1, 0]])
    ids, scores = index.search(np.array([0.0, 2.0, 0.0]), k=2)
    assert ids.tolist() == [1, 0]
    assert scores.tolist() == [2.0, 0.0]


def test_equal_scores_come_in_the_order_of_their_ids():
    index = Index(2)
    index.add(np.ones((6, 2)))
    assert index.search(np.ones((1, 2)), 4).ids.tolist() == [[0, 1, 2, 3]]


def test_bytes_per_query_grow_from_the_small_copy_to_the_whole_table():
    index = Index(64)
    index.add(structured(1000, 64, seed=11))
    assert index.bytes_per_query(0.1) == index.bytes_per_query(1) == 1000 * 64 * 4
    index.fit(estimator=LowRank(rank=32))
    assert index.bytes_per_query(0.1) == index.estimate_bytes + 100 * 64 * 4 < index.bytes_per_query(1)


@pytest.mark.parametrize("rows", FORMATS)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.ones((2, 5)), "width 4 cannot have the shape"),
        (np.ones((2, 2, 4)), "cannot have the shape"),
        (np.ones(3), "cannot have the shape"),
        ([[1, 2, 3, np.nan]], "NaN .* number 0"),
        ([[0, 0, 0, 0], [1, 2, 3, np.inf]], "NaN .* number 1"),
        ([[1, 2, 3, 1e300]], "above 4194304"),
        ([[1, 2, 3, -5e6]], "above 4194304"),
        (["four"], "real numbers"),
        ([[1, 2, 3, 4], [1]], "real numbers"),
        ([[1j, 2, 3, 4]], "real numbers"),
    ],
    ids=str,
)
def test_wrong_vectors_and_queries_are_refused(rows, wrong, message):
    index = Index(4, rows=rows)
    with pytest.raises(UsageError, match=message):
        index.add(wrong)
    index.add(np.ones((3, 4)))
    with pytest.raises(UsageError, match=message):
        index.search(wrong, 1)
    with pytest.raises(UsageError, match=message):
        index.fit(wrong)
    assert len(index) == 3


def test_cosine_needs_a_direction():
    index = Index(2, metric="cosine")
    with pytest.raises(UsageError, match="number 1 is all zeros"):
        index.add([[1, 1], [0, 0]])
    index.add([[1e-30, 0], [0, 1e6]])
    np.testing.assert_allclose(index.search([3e-30, 4e-30], 2).scores, [0.8, 0.6], rtol=1e-6)


def test_wrong_options_are_refused():
    for arguments in ({"width": 0}, {"width": 4, "metric": "euclidean"}, {"width": 4, "rows": "int4"}):
        with pytest.raises(UsageError):
            Index(**arguments)
    index = Index(4)
    for action in (index.fit, lambda: index.search(np.ones(4), 1)):
        with pytest.raises(UsageError, match="the index is empty"):
            action()
    index.add(np.ones((3, 4)))
    for k in (0, -1, 4):
        with pytest.raises(UsageError, match="k is 1 to 3"):
            index.search(np.ones(4), k)
    for keep in (0, -0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="keep"):
            index.search(np.ones(4), 1, keep)
    with pytest.raises(UsageError, match="rank 4"):
        index.fit(estimator=LowRank(rank=4))
    assert index.fitted == 0


@pytest.mark.parametrize(
    ("width", "rank"),
    [(1, 1), (2, 1), (20, 19), (32, 31), (33, 32), (256, 32), (511, 32), (512, 64), (768, 96)],
)
def test_the_default_rank_is_an_eighth_of_the_width_in_whole_groups(width, rank):
    assert _default_rank(width) == rank
