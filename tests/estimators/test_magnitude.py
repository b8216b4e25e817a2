"""Magnitude: the inputs that carry most, weighed by what their weights can add."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortlist.errors import UsageError
from shortlist.estimators.magnitude import Magnitude

INPUTS, OUTPUTS = 40, 12


def layer(seed, asarray=np.asarray):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((INPUTS, OUTPUTS)) * rng.uniform(0.1, 5, (INPUTS, 1))
    inputs = rng.standard_normal((3, INPUTS))
    return asarray(rows.astype(np.float32)), asarray(inputs.astype(np.float32))


@given(st.integers(0, 2**32 - 1))
def test_weighted_scores_are_the_lengths_of_what_is_added(seed):
    rows, inputs = layer(seed)
    values = Magnitude().score(Magnitude().fit(rows, inputs), inputs).values
    np.testing.assert_allclose(values, np.linalg.norm(inputs[..., None] * rows, axis=-1), rtol=1e-5)


@given(st.integers(0, 2**32 - 1), st.integers(1, INPUTS))
def test_what_is_skipped_errs_by_no_more_than_its_scores(seed, kept):
    rows, inputs = layer(seed)
    scores = Magnitude().score(Magnitude().fit(rows, inputs), inputs[0]).values
    skipped = np.argsort(scores)[:-kept]
    error = np.linalg.norm(inputs[0][skipped] @ rows[skipped])
    assert error <= scores[skipped].sum() * (1 + 1e-5) + 1e-6


@pytest.mark.parametrize(("weighted", "rest"), [(True, 0), (False, 0), (True, 5), (False, 5)])
def test_state_is_as_laid_out(weighted, rest, asarray):
    rows, inputs = layer(0, asarray)
    estimator, shares = Magnitude(weighted, rest), []
    state = estimator.fit(rows, inputs, progress=shares.append)
    estimator.check(state, INPUTS, OUTPUTS)
    assert shares[-1] == 1
    assert estimator.bytes_per_query(INPUTS, OUTPUTS) == sum(np.asarray(a).nbytes for a in state.values())
    values = np.asarray(estimator.score(state, inputs).values)
    weights = np.linalg.norm(np.asarray(rows), axis=1) if weighted else 1.0
    np.testing.assert_allclose(values, np.abs(np.asarray(inputs)) * weights, rtol=1e-5)


def test_queries_of_another_width_are_refused():
    rows, inputs = layer(0)
    with pytest.raises(UsageError, match="cannot have the shape"):
        Magnitude().fit(rows, inputs[:, :-1])


@given(st.integers(0, 2**32 - 1))
def test_the_rest_errs_least_on_the_queries_it_was_fitted_to(seed):
    rng = np.random.default_rng(seed)
    rows, _ = layer(seed)
    few = rng.standard_normal((3, INPUTS))  # the queries lie in three directions
    queries = (rng.standard_normal((50, 3)) @ few).astype(np.float32)
    state = Magnitude(False, rest=4).fit(rows, queries)
    exact = queries @ rows
    near = queries @ state["inner"].T.astype(np.float32) @ state["outer"].T.astype(np.float32)
    assert np.linalg.norm(near - exact) < 0.02 * np.linalg.norm(exact)  # float16 factors


def test_a_rest_that_saves_nothing_is_refused():
    rows, inputs = layer(0)
    with pytest.raises(UsageError, match="a rest of rank 12 saves nothing on a matrix of 40 x 12"):
        Magnitude(rest=12).fit(rows, inputs)
    with pytest.raises(UsageError, match="0 or more, not -1"):
        Magnitude(rest=-1)
