"""Kernels for processors that this machine is not, compiled and emulated."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "check_kernels.sh"


def test_a_missing_compiler_is_one_line_that_says_what_to_install():
    done = subprocess.run(["bash", SCRIPT, "no-such-g++", "qemu-aarch64"], capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("no-such-g++ is missing: apt-get install ")


@pytest.mark.slow
def test_kernels_for_arm_match_the_portable_ones():
    if not (shutil.which("aarch64-linux-gnu-g++") and shutil.which("qemu-aarch64")):
        pytest.skip("no cross-compiler or emulator for ARM: apt-get install g++-aarch64-linux-gnu qemu-user")
    done = subprocess.run(["make", "-C", ROOT, "test-arm"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "neon: 0 of 365 checks failed" in done.stdout
