"""Fixtures that every part of the suite uses."""

from pathlib import Path

import pytest

from shortlist import checkpoints


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct, Q4_1: pulled into the cache the first time."""
    return checkpoints.pull("smollm2-135m", progress=False)


@pytest.fixture(scope="session")
def gemma() -> Path:
    """Gemma-3-270M, Q4_K_M: pulled into the cache the first time."""
    return checkpoints.pull("gemma-3-270m", progress=False)
