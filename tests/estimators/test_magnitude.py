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
    values = Magnitude().estimate(Magnitude().fit(rows, inputs), inputs).values
    np.testing.assert_allclose(values, np.linalg.norm(inputs[..., None] * rows, axis=-1), rtol=1e-5)


@given(st.integers(0, 2**32 - 1), st.integers(1, INPUTS))
def test_what_is_skipped_errs_by_no_more_than_its_scores(seed, kept):
    rows, inputs = layer(seed)
    scores = Magnitude().estimate(Magnitude().fit(rows, inputs), inputs[0]).values
    skipped = np.argsort(scores)[:-kept]
    error = np.linalg.norm(inputs[0][skipped] @ rows[skipped])
    assert error <= scores[skipped].sum() * (1 + 1e-5) + 1e-6


@pytest.mark.parametrize("weighted", [True, False])
def test_state_is_as_laid_out(weighted, asarray):
    rows, inputs = layer(0, asarray)
    estimator, shares = Magnitude(weighted), []
    state = estimator.fit(rows, inputs, progress=shares.append)
    estimator.check(state, INPUTS, OUTPUTS)
    assert shares[-1] == 1
    assert estimator.bytes_per_query(INPUTS, OUTPUTS) == sum(np.asarray(a).nbytes for a in state.values())
    values = np.asarray(estimator.estimate(state, inputs).values)
    weights = np.linalg.norm(np.asarray(rows), axis=1) if weighted else 1.0
    np.testing.assert_allclose(values, np.abs(np.asarray(inputs)) * weights, rtol=1e-5)


def test_queries_of_another_width_are_refused():
    rows, inputs = layer(0)
    with pytest.raises(UsageError, match="cannot have the shape"):
        Magnitude().fit(rows, inputs[:, :-1])
