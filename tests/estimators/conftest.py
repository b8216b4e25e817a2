"""Array namespaces that every estimator is tested with."""

import numpy as np
import pytest


@pytest.fixture(params=["numpy", "torch"])
def asarray(request):
    """Turn NumPy arrays into arrays of the namespace under test."""
    if request.param == "numpy":
        return np.asarray
    return pytest.importorskip("torch").from_numpy


@pytest.fixture(autouse=True)
def few_centroids(monkeypatch):
    """With 256 centroids the small tables of these tests would be stored as they are."""
    monkeypatch.setattr("shortlist.estimators.codebook.CENTROIDS", 16)
