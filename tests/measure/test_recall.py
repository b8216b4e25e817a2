import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortlist import _native
from shortlist.estimators import Exact, LowRank, Neighbour, Random
from shortlist.measure.recall import (
    BEST_ROWS,
    FFN_KEPT,
    FFN_WANTED,
    HEAD_KEPT,
    MEAN_RANK,
    all_estimators,
    best_units,
    estimates,
    estimators_for,
    ffn_recalls,
    fitted,
    head_recalls,
    head_values,
    main_estimators,
    recall_within,
)
from shortlist.measure.tables import Ffn, Head

UNITS, WIDTH = 640, 128


def some_methods(spread):
    yield from (Random(), LowRank(64, spread_per_query=spread), Exact())


@pytest.fixture(scope="module")
def head():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((UNITS, WIDTH), dtype=np.float32)
    packed = _native.Rows.pack(rows.view(np.uint8).reshape(-1), "F32", UNITS, WIDTH)
    fit, test = (rng.standard_normal((count, WIDTH), dtype=np.float32) for count in (256, 40))
    return Head(packed, fit, test)


@pytest.fixture(scope="module")
def ffn():
    rng = np.random.default_rng(1)
    gate, up, down = (0.1 * rng.standard_normal((120, WIDTH), dtype=np.float32) for _ in range(3))
    fit, test = (rng.standard_normal((count, WIDTH), dtype=np.float32) for count in (256, 40))
    norms = np.linalg.norm(down, axis=1)
    return Ffn(0, gate, up, np.ascontiguousarray(down.T), norms, 3 * gate.nbytes, "silu", fit, test)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_recall_within_is_the_overlap_of_two_sets(kept, count, seed):
    rng = np.random.default_rng(seed)
    estimated = rng.permutation(240).reshape(4, 60).astype(np.float32)
    wanted = np.stack([rng.choice(60, count, replace=False) for _ in range(4)])
    overlaps = [
        len(set(np.argsort(-scores)[:kept]) & set(units)) / count
        for scores, units in zip(estimated, wanted, strict=True)
    ]
    assert recall_within(estimated, wanted, kept) == pytest.approx(np.mean(overlaps))


@given(st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_among_a_sample_a_unit_is_found_where_it_scores_as_its_best_do(kept, seed):
    rng = np.random.default_rng(seed)
    estimated = rng.permutation(120).reshape(2, 60).astype(np.float32)
    wanted = rng.choice(60, (2, 5))
    found = [
        scores[unit] >= sorted(scores[:30])[-kept]
        for scores, units in zip(estimated, wanted, strict=True)
        for unit in units
    ]
    assert recall_within(estimated, wanted, kept, among=30) == pytest.approx(np.mean(found))


@given(st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_best_units_are_sorted_by_value(count, seed):
    values = np.random.default_rng(seed).permutation(100).reshape(2, 50).astype(np.float32)
    np.testing.assert_array_equal(best_units(values, count), np.argsort(-values, axis=1)[:, :count])


@pytest.mark.parametrize("sample", [None, 300])
def test_of_a_head_the_oracle_finds_all_and_the_floor_finds_little(head, sample):
    by_name = {recall.estimator: recall for recall in head_recalls(head, some_methods, sample)}
    assert set(by_name) == {"random", "low_rank", "exact", "mixed_width"}
    # The best 1 % of 640 rows are 6, and about as many reach the best 3 of a sample of 300.
    assert by_name["exact"].found["top-1"] >= (0.9 if sample else 1)
    assert by_name["exact"].found["top-32"] == pytest.approx(6 / 32, abs=0.1 if sample else 1e-9)
    assert by_name["random"].found["top-32"] < 0.1
    assert by_name["random"].found["top-1"] < by_name["low_rank"].found["top-1"] <= 1
    # Bytes are those of the whole head, whatever the sample.
    assert by_name["exact"].bytes_share == pytest.approx(1.0, rel=0.01)


def test_exact_values_are_the_products(head):
    rows = head.rows.unpack(np.arange(UNITS, dtype=np.int32))
    np.testing.assert_allclose(head_values(head, head.test), head.test @ rows.T, rtol=1e-4, atol=1e-4)


def test_of_a_feed_forward_layer_the_oracle_finds_all(ffn):
    recalls = list(ffn_recalls(ffn, some_methods))
    assert [recall.estimator for recall in recalls] == ["random", "low_rank", "exact", "gate"]
    found = {recall.estimator: recall.found["top 10 %"] for recall in recalls}
    assert found["exact"] == 1
    assert found["random"] < found["low_rank"] < 1
    assert found["random"] < found["gate"] < 1
    assert recalls[1].label == "low_rank, rank 64, spread_per_query False"


def test_methods_too_wide_for_a_table_are_left_out(ffn):
    labels = [recall.label for recall in ffn_recalls(ffn)]
    assert not any("rank 128" in label or "rank 256" in label for label in labels)
    assert any(label.startswith("codebook") for label in labels)


def test_the_main_line_has_every_method_that_all_have():
    names = {estimator.name for estimator in all_estimators(True)}
    assert {estimator.name for estimator in main_estimators(True)} == names
    assert {"exact", "random"} <= names


def test_how_many_are_wanted_and_kept_is_what_the_pages_say():
    assert (HEAD_KEPT, FFN_WANTED, FFN_KEPT, BEST_ROWS, MEAN_RANK) == (0.01, 0.1, 0.2, 32, 64)


def test_a_shortlist_of_a_layer_is_a_fifth_of_it(ffn):
    (chance,) = [
        recall for recall in ffn_recalls(ffn, lambda _: iter([Random()])) if recall.estimator == "random"
    ]
    assert chance.found["top 10 %"] == pytest.approx(0.2, abs=0.06)


@pytest.mark.parametrize(("width", "learned", "mixed"), [(64, True, 0), (96, True, 1), (96, False, 0)])
def test_mixed_width_is_learned_where_the_table_is_wide_enough(width, learned, mixed):
    rng = np.random.default_rng(3)
    table, queries = (rng.standard_normal((count, width), dtype=np.float32) for count in (100, 120))
    found = list(estimators_for(table, queries, iter([Exact()]), learned=learned))
    assert [estimator.name for estimator, _ in found] == ["exact", *["mixed_width"] * mixed]
    assert all((seconds > 0) == (estimator.name == "mixed_width") for estimator, seconds in found)


def test_a_neighbour_learns_from_step_to_step(ffn):
    same = np.repeat(ffn.test[:1], 8, axis=0)
    estimator = Neighbour()
    exact = same @ ffn.table.T
    state, _ = fitted(estimator, ffn.table, ffn.fit)
    found = estimates(estimator, state, same, exact, 20)
    errors = np.abs(found - exact).mean(axis=1)
    assert errors[-1] < errors[0]
