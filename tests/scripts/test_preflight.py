import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import preflight

ROOT = Path(__file__).parent.parent.parent


def _make(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`make` in a folder that has only what is read before anything is installed."""
    (folder / "scripts").mkdir()
    for name in ("Makefile", "constraints.txt", "pyproject.toml", "scripts/preflight.py"):
        shutil.copy(ROOT / name, folder / name)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", f"PYTHON={sys.executable}", *arguments]
    return subprocess.run(
        command, cwd=folder, env=clean | environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("target", ["demo", "test"])
def test_missing_compiler_is_one_line_and_nothing_is_installed(target: str, tmp_path: Path) -> None:
    result = _make(tmp_path, target, CXX="/no/such/compiler")
    assert result.returncode != 0
    first, *others = result.stderr.splitlines()
    assert "`/no/such/compiler` does not compile C++17: install" in first
    assert all(line.startswith("make") for line in others)  # its own 'Error 1'
    assert not (tmp_path / ".venv").exists()


def test_missing_python_is_one_line(tmp_path: Path) -> None:
    result = _make(tmp_path, "demo", "PYTHON=no-such-python")
    assert result.returncode != 0
    assert result.stderr.startswith("make: no no-such-python found: install Python 3.11 or newer")


def test_old_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 2))
    assert "needs Python 3.11 or newer" in str(preflight.missing())
    assert "is 3.10" in str(preflight.missing())


def test_no_compiler_at_all_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "no C++ compiler found: install one" in str(preflight.missing())


def test_this_machine_lacks_nothing() -> None:
    assert preflight.missing() is None
