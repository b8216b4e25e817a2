"""Fixtures that every part of the suite uses."""

from pathlib import Path

import pytest
from hypothesis import settings

from shortlist import checkpoints

# How long an example takes says more about the machine than about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct, Q4_1: pulled into the cache the first time."""
    return checkpoints.pull("smollm2-135m", progress=False)


@pytest.fixture(scope="session")
def gemma() -> Path:
    """Gemma-3-270M, Q4_K_M: pulled into the cache the first time."""
    return checkpoints.pull("gemma-3-270m", progress=False)
