"""Tests that need a separate process: signals, pipes, the time to start."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

FAKE = [sys.executable, str(Path(__file__).with_name("fake_shortlist.py"))]


def start(*arguments, **options):
    return subprocess.Popen(
        [*FAKE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.mark.parametrize("json", [False, True])
def test_ctrl_c_keeps_what_was_written(json, tmp_path):
    loaded = tmp_path / "loaded"
    environment = {**os.environ, "FAKE_LOADED": str(loaded)}
    process = start("run", "endless", "Say:", "-n", "50000", *["--json"] * json, env=environment)
    assert process.stdout is not None
    if json:  # which shows nothing until the end
        while not loaded.exists():
            time.sleep(0.05)
        time.sleep(2)
    else:
        assert process.stdout.read(10) == "word word "
    process.send_signal(signal.SIGINT)
    stopped = time.monotonic()
    out, err = process.communicate(timeout=20)
    assert time.monotonic() - stopped < 3
    assert process.returncode == 130
    if json:
        assert '"text": "word' in out
        assert '"finish_reason": null' in out
    else:
        assert out.endswith("\n")
    assert err == ""


def test_a_reader_that_leaves_ends_the_work_quietly():
    process = start("run", "endless", "Say:", "-n", "50000")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(timeout=20) == 1
    assert process.stderr.read() == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("json", [False, True])
def test_output_on_a_full_disk_is_one_line(json):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*FAKE, "run", "tiny", "x", *["--json"] * json], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr.startswith("shortlist: the output cannot be written: No space left")
    assert done.stderr.count("\n") == 1


def test_ctrl_c_in_a_piped_chat():
    process = start("chat", "endless", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("hello\n")
    process.stdin.flush()
    assert process.stdout.read(5) == "word "
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130


def test_characters_that_the_terminal_lacks_are_no_failure():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*FAKE, "run", "é😀", "x"], capture_output=True, env=environment, check=True)
    assert done.stdout == b"??\n"


def test_help_needs_neither_numpy_nor_the_native_module():
    code = (
        "import sys; from shortlist.cli import run_command; run_command(['run', '--help']);"
        "print(sorted({'numpy', 'rich', 'shortlist._native'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
