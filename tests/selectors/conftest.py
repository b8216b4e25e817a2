"""Array namespaces that every selector is tested with."""

import numpy as np
import pytest


@pytest.fixture(params=["numpy", "torch"])
def asarray(request):
    """Turn NumPy arrays into arrays of the namespace under test."""
    if request.param == "numpy":
        return np.asarray
    return pytest.importorskip("torch").from_numpy
