"""The pool of threads: errors, whose threads a call takes, forks, waiting, and silence when idle."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

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
    assert "SHORTLIST_ISA is 'neon9'; it can be avx512, avx2, neon or portable" in done.stderr


def held(seconds: float, started: threading.Event | None = None, **how) -> tuple[int, int]:
    if started:
        started.set()
    return _native.hold_pool(seconds, **how)


def test_one_job_runs_at_a_time():
    first_is_in = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(held, 0.4, first_is_in)
        first_is_in.wait()
        time.sleep(0.1)  # in native code, for certain
        begun = time.perf_counter()
        most, _ = held(0.05)
        assert time.perf_counter() - begun > 0.25, "the second job did not wait for the first"
        assert (most, first.result()[0]) == (1, 1)


@pytest.mark.parametrize(("member", "at_barrier"), [(0, True), (1, True), (0, False), (1, False)])
def test_who_waits_sleeps(member, at_barrier):
    held(0.01)
    before = time.process_time()
    held(0.5, member=member, at_barrier=at_barrier)
    assert time.process_time() - before < 0.15


def team() -> int:
    return held(0)[1]


def test_workers_count_inside_their_block_and_in_their_thread_alone():
    assert team() == 2
    with _native.Workers(3) as entered:
        assert entered is None
        assert team() == 3
        with _native.Workers(1):
            assert team() == 1
            with _native.Workers(0):
                assert team() == 1  # as around it
        assert team() == 3
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(team).result() == 2
    assert team() == 2


def test_workers_end_with_their_block_whatever_happens_in_it():
    with pytest.raises(RuntimeError, match="failed"), _native.Workers(3):
        _native.fail_in_thread(2)
    assert team() == 2
    with pytest.raises(ValueError, match="in no such block"):
        _native.Workers(3).__exit__(None, None, None)


@pytest.mark.parametrize("threads", [-1, 1025])
def test_workers_out_of_range_are_refused(threads):
    with pytest.raises(ValueError, match="between 1 and 1024"):
        _native.Workers(threads)


def test_a_runtime_needs_both_functions():
    for pair in ((1, 0), (0, 1)):
        with pytest.raises(ValueError, match="both"):
            _native.Workers(2, *pair)


def test_rows_bring_their_own_threads():
    rows = _native.Rows.pack(np.ones(8 * 64, np.float32).view(np.uint8), "F32", 8, 64)
    assert rows.threads == 0
    rows.threads = 3
    expected = np.full(8, 64.0)
    assert np.array_equal(rows.matvec(X), expected)
    assert team() == 2


def test_a_new_process_uses_every_core_that_it_may():
    code = "from shortlist import _native; print(_native.threads())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == len(os.sched_getaffinity(0))


def be_late(crowd, size, held_up, now):
    """Three jobs in a row whose members had to wait: what it takes to leave them out."""
    for _ in range(3):
        crowd.report(size, held_up, now)


def test_one_late_job_in_five_leaves_nobody_out():
    crowd = _native.Crowd()
    for _ in range(100):
        crowd.report(2, 1, 0)
        for _ in range(4):
            crowd.report(2, 0, 0)
        assert crowd.admitted(2, 0) == 2
    crowd.report(2, 1, 0)
    crowd.report(2, 1, 0)
    assert crowd.admitted(2, 0) == 2
    crowd.report(2, 0, 0)
    crowd.report(2, 1, 0)
    assert crowd.admitted(2, 0) == 2, "11 of 12"
    crowd.report(2, 1, 0)
    assert crowd.admitted(2, 0) == 1


def test_a_crowded_machine_gets_smaller_teams_and_tries_again_later():
    crowd = _native.Crowd()
    assert crowd.admitted(4, 0) == 4
    crowd.report(4, 0, 5)
    assert crowd.admitted(4, 10) == 4
    be_late(crowd, 4, 1, 10)  # one member was held up, again and again
    assert crowd.admitted(4, 29) == 3
    assert crowd.admitted(2, 29) == 2
    assert crowd.admitted(4, 30) == 4  # tried again after 20 ms
    be_late(crowd, 4, 2, 31)
    assert crowd.admitted(4, 110) == 2
    assert crowd.admitted(4, 111) == 3  # after 80 ms, and one by one
    assert crowd.admitted(4, 130) == 3
    assert crowd.admitted(4, 131) == 4


def test_pauses_grow_to_a_limit_and_begin_anew_after_quiet():
    crowd, now = _native.Crowd(), 0
    for pause in (20, 80, 320, 1280, 2000, 2000):
        assert crowd.admitted(2, now) == 2
        be_late(crowd, 2, 2, now)
        assert crowd.admitted(2, now + pause - 1) == 1
        crowd.report(1, 1, now + pause - 1)  # alone, nobody waits for anybody
        now += pause
    assert crowd.admitted(2, now) == 2
    crowd.report(2, 0, now + 100)
    be_late(crowd, 2, 1, now + 100)
    assert crowd.admitted(2, now + 2099) == 1  # 100 ms were not yet enough
    now += 2100
    assert crowd.admitted(2, now) == 2
    crowd.report(2, 0, now + 101)
    be_late(crowd, 2, 1, now + 101)
    assert crowd.admitted(2, now + 120) == 1
    assert crowd.admitted(2, now + 121) == 2


def test_a_team_has_a_member_left():
    crowd = _native.Crowd()
    be_late(crowd, 2, 2, 0)
    assert crowd.admitted(2, 1) == 1
