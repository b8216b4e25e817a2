"""Imports run one way: the contracts of pyproject.toml, and what loading a model brings along."""

import subprocess
import sys
from pathlib import Path

import pytest
from builders import tiny_gguf

ROOT = Path(__file__).parent.parent
ABOVE = ("fit", "measure", "report", "peers", "torch", "server", "cli")
MOST_MODULES = 102  # of them one for each family


def test_the_contracts_of_the_layers_hold(capsys, monkeypatch):
    from importlinter import cli

    monkeypatch.syspath_prepend(str(ROOT / "src"))
    status = cli.lint_imports(str(ROOT / "pyproject.toml"), no_cache=True, no_logo=True)
    assert status == 0, capsys.readouterr().out


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> list[str]:
    """Our modules that a process holds after it has loaded a model and written a token."""
    path = tmp_path_factory.mktemp("imports") / "tiny.gguf"
    tiny_gguf("llama", path)
    code = f"""
import sys, shortlist
with shortlist.load({str(path)!r}, head="dense") as model:
    model.generate("a", max_tokens=1)
print(*(name for name in sys.modules if name.startswith("shortlist.")))
"""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_loading_imports_nothing_from_above_the_engine(loaded):
    assert "shortlist.engine.model" in loaded
    assert [name for name in loaded if name.split(".")[1] in ABOVE] == []


def test_loading_imports_few_modules(loaded):
    assert len(loaded) < MOST_MODULES, sorted(loaded)
