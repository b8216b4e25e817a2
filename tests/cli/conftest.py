"""Commands in this process, with fake models."""

import io
import sys
from types import SimpleNamespace

import pytest
from builders import tiny_gguf

from shortlist.cli import run_command


@pytest.fixture
def shortlist(monkeypatch, capsys):
    """Run a command with a model that answers with its own name; see `fake_shortlist.load`."""
    from cli import fake_shortlist

    monkeypatch.setattr("shortlist.engine.load.load", fake_shortlist.load)

    def run(*arguments, stdin=None):
        """Exit code, standard output, standard error; without `stdin` (bytes) there is a terminal."""
        source = io.TextIOWrapper(io.BytesIO(stdin or b""), encoding="utf-8")
        if stdin is None:
            monkeypatch.setattr(source, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(sys, "stdin", source)
        code = run_command([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, out=captured.out, err=captured.err)

    return run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The path of a tiny llama in a GGUF file."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    tiny_gguf("llama", path, "Q8_0")
    return str(path)
