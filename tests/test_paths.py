"""The cache folder is the user's choice, or the platform's."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import platformdirs
import pytest

from shortlist.errors import ShortlistError, UsageError
from shortlist.paths import HOME_VARIABLE, cache_folder, held, locked, write_whole


def test_the_variable_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv(HOME_VARIABLE, "~/models")
    assert cache_folder() == Path.home() / "models"


@pytest.mark.parametrize("unset", [None, ""])
def test_else_the_platform_says(monkeypatch: pytest.MonkeyPatch, unset: str | None):
    if unset is None:
        monkeypatch.delenv(HOME_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(HOME_VARIABLE, unset)
    assert cache_folder() == platformdirs.user_cache_path("shortlist")


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    page = tmp_path / "page.html"
    page.write_text("old")

    def fail(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(ShortlistError, match="cannot be written: No space left"):
        write_whole(page, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert page.read_text() == "old"


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path: Path):
    page = tmp_path / "page.html"
    gone, here = dead_process(), os.getpid()
    left = f".page.html.{gone}-0123abcd"
    kept = {
        f".page.html.{here}-0123abcd",  # of a process that still writes
        f".other.html.{gone}-0123abcd",
        f".pageahtml.{gone}-0123abcd",
        f".page.html.{gone}",
        f".page.html.{gone}-0123abcd.txt",
        f"page.html.{gone}-0123abcd",
    }
    for name in {left, *kept}:
        (tmp_path / name).touch()
    write_whole(page, "new é")
    assert page.read_text(encoding="utf-8") == "new é"
    assert {path.name for path in tmp_path.iterdir()} == {"page.html", *kept}


def test_one_writes_alone_and_many_read(tmp_path: Path):
    held, events = threading.Event(), []

    def other(alone: bool) -> None:
        with locked(tmp_path, alone=alone):
            events.append(alone)
            held.set()

    for mine, theirs in ((True, True), (True, False), (False, True)):
        held.clear()
        with locked(tmp_path, alone=mine):
            thread = threading.Thread(target=other, args=(theirs,))
            thread.start()
            assert not held.wait(0.1)
        assert held.wait(10)
        thread.join()
    held.clear()
    with locked(tmp_path, alone=False):
        thread = threading.Thread(target=other, args=(False,))
        thread.start()
        assert held.wait(10)
    thread.join()


def test_a_folder_that_is_not_there_needs_no_lock(tmp_path: Path):
    with locked(tmp_path / "nothing", alone=False):
        pass
    handles = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with locked(tmp_path, alone=True):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == handles


HOLDER = """
import sys, time
from pathlib import Path
from shortlist.paths import held
with held(Path(sys.argv[1]), "used"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_what_another_process_holds_is_refused_by_its_number_until_it_dies(tmp_path: Path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            words = f"{tmp_path} is being used by process {process.pid}: wait for it, or stop it first"
            for _ in range(2):  # to be refused changes nothing
                with pytest.raises(UsageError) as refused, held(tmp_path, "used"):
                    pass
                assert str(refused.value) == words
        finally:
            process.kill()
    with held(tmp_path, "used"):
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"
        with pytest.raises(UsageError, match=f"by process {os.getpid()}:"), held(tmp_path, "used"):
            pass  # nor does this process hold it twice
    with held(tmp_path, "used"):
        pass


def test_where_nothing_can_be_locked_nothing_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with held(tmp_path / "missing", "used"):
        pass

    def no_locks(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with held(tmp_path, "used"):
        assert (tmp_path / ".lock").read_text() == ""
