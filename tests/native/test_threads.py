"""The pool of threads: errors, resizing, forks, and silence when idle."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from shortlist import _native

ROWS = _native.Rows.pack(np.arange(4096 * 64, dtype=np.float32).view(np.uint8), "F32", 4096, 64)
X = np.ones(64, np.float32)


@pytest.fixture(autouse=True)
def two_threads():
    before = _native.threads()
    _native.set_threads(2)
    yield
    _native.set_threads(before)


@pytest.mark.parametrize("member", [0, 1])
def test_an_error_in_a_thread_reaches_python_and_nothing_hangs(member):
    for _ in range(20):
        with pytest.raises(RuntimeError, match="a member of the team failed"):
            _native.fail_in_thread(member)
    assert np.isfinite(ROWS.matvec(X)).all()


def test_results_do_not_depend_on_the_number_of_threads():
    results = []
    for threads in (1, 2, 3, 5):
        _native.set_threads(threads)
        results.append(ROWS.matvec(X))
    assert all(np.array_equal(results[0], r) for r in results)


def test_out_of_range_is_refused():
    for bad in (0, -1, 5000):
        with pytest.raises(ValueError, match="between 1 and 1024"):
            _native.set_threads(bad)


def test_idle_threads_do_not_burn_the_processor():
    ROWS.matvec(X)
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("rest", [0.0, 0.02], ids=["awake", "asleep"])
def test_a_forked_process_starts_its_own_threads(rest):
    code = f"""
import os, time, numpy as np
from shortlist import _native
_native.set_threads(2)
rows = _native.Rows.pack(np.ones(512 * 64, np.float32).view(np.uint8), "F32", 512, 64)
x = np.ones(64, np.float32)
rows.matvec(x)
time.sleep({rest})
pid = os.fork()
ok = _native.threads() == 2
for _ in range(5):  # the third announcement to threads that a fork left asleep once waited forever
    ok = ok and (rows.matvec(x) == 64).all()
    time.sleep({rest})
if pid == 0:
    os._exit(0 if ok else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) or (0 if ok else 1))
"""
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], start_new_session=True)
    try:
        assert process.wait(timeout=60) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test_an_unknown_instruction_set_is_one_clear_error():
    environment = {**os.environ, "SHORTLIST_ISA": "neon9"}
    code = "from shortlist import _native; _native.isa()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "SHORTLIST_ISA is 'neon9'; it can be avx512, avx2 or portable" in done.stderr
