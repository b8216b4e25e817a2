from pathlib import Path

import pytest

from shortlist.peers import convert
from shortlist.peers.base import PeerError
from shortlist.peers.convert import converted

COPY = "import shutil, sys; shutil.copytree(sys.argv[1], sys.argv[2])"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path))


@pytest.fixture
def _no_dequantizing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for the first step, which needs transformers."""
    program = "import pathlib, sys; pathlib.Path(sys.argv[2]).mkdir()"
    (tmp_path / "makes_folder.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(convert, "__name__", "makes_folder")


@pytest.mark.usefixtures("_no_dequantizing")
def test_conversion_is_kept(tiny_random: Path) -> None:
    commands = []

    def command(source: Path, target: Path) -> list[str]:
        commands.append(target)
        return ["-c", COPY, str(source), str(target)]

    folder = converted(tiny_random, "copy", command)
    assert converted(tiny_random, "copy", command) == folder
    assert len(commands) == 1
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.usefixtures("_no_dequantizing")
def test_converter_that_fails_is_quoted_and_leaves_nothing(tiny_random: Path, tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="cannot be converted to odd: no such layer"):
        converted(tiny_random, "odd", lambda *_: ["-c", "import sys; sys.exit('tried\\nno such layer')"])
    assert list((tmp_path / "peers").iterdir()) == []


@pytest.mark.slow
def test_float32_folder_of_a_gguf_file(tiny_random: Path) -> None:
    pytest.importorskip("transformers")
    folder = converted(tiny_random, "float32", lambda source, target: ["-c", COPY, str(source), str(target)])
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {p.name for p in folder.iterdir()}
    assert "quantization_config" not in (folder / "config.json").read_text()
