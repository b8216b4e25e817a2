import subprocess
import sys

import pytest

from shortlist.memory import peak_rss_bytes


def _touched(size: int) -> bytearray:
    block = bytearray(size)
    block[::4096] = b"x" * len(block[::4096])
    return block


def test_peak_grows_with_what_is_held() -> None:
    before = peak_rss_bytes()
    block = _touched(before + 50_000_000)
    assert peak_rss_bytes() > before + 40_000_000
    del block
    assert peak_rss_bytes() > before + 40_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak of the parent cannot be told apart")
def test_peak_of_a_child_is_its_own() -> None:
    block = _touched(300_000_000)
    program = "from shortlist.memory import peak_rss_bytes; print(peak_rss_bytes())"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(child.stdout) < 100_000_000
    del block
