"""Fixtures that every part of the suite uses."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from fixtures import refused, tiny_random, tiny_shape  # noqa: F401
from hypothesis import HealthCheck, settings

from shortlist import checkpoints

# How long an example takes, or its making, says more about the machine than about the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# A shell that starts the suite in the background ignores SIGINT for it and all of its children. A handler of
# Python's own is not inherited: children start with the default again.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct, Q4_1: pulled into the cache the first time."""
    return checkpoints.pull("smollm2-135m", progress=False)


@pytest.fixture(scope="session")
def gemma() -> Path:
    """Gemma-3-270M, Q4_K_M: pulled into the cache the first time."""
    return checkpoints.pull("gemma-3-270m", progress=False)


@pytest.fixture(scope="session")
def browser():
    """Chromium without a window; skips where it or Playwright is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright for Python is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("there is no Chromium: install it with apt install chromium")
    sandbox = [] if os.getuid() else ["--no-sandbox"]  # Chromium refuses to run as root with its sandbox
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=sandbox)
        yield browser
        browser.close()
