import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from shortlist.peers import Peer, PeerError, bench_worker
from shortlist.peers.bench_worker import Worker, serve


class FakePeer(Peer):
    settings = "fake"
    bytes_per_token = 1000.0

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[int], int]] = []

    def prefill(self, tokens: Sequence[int]) -> float:
        self.calls.append(("prefill", list(tokens), 0))
        return 0.5

    def decode(self, prompt: Sequence[int], count: int) -> float:
        self.calls.append(("decode", list(prompt), count))
        return 0.25


def test_serve_answers_each_line_with_one_line() -> None:
    peer = FakePeer()
    requests = io.StringIO('{"prefill": [1, 2]}\n{"decode": [3], "count": 4}\n')
    answers = io.StringIO()
    serve(peer, requests, answers)
    ready, prefill, decode = map(json.loads, answers.getvalue().splitlines())
    assert peer.calls == [("prefill", [1, 2], 0), ("decode", [3], 4)]
    assert ready == {"settings": "fake"}
    assert (prefill["seconds"], decode["seconds"]) == (0.5, 0.25)
    assert decode["bytes_per_token"] == 1000
    assert decode["peak_rss_mb"] > 1


def test_worker_measures_a_model_in_another_process(tiny_random: Path) -> None:
    with Worker("shortlist", "dense", tiny_random, 1) as worker:
        prefill = worker.prefill([1, 2, 3])
        decode = worker.decode([1, 2, 3], 4)
    assert prefill["seconds"] > 0
    assert decode["seconds"] > 0
    assert decode["bytes_per_token"] > 320 * 64  # the head alone is more
    assert 1 < decode["peak_rss_mb"] < 2000


def test_a_model_that_does_not_load_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="no-such"):
        Worker("shortlist", "dense", tmp_path / "no-such.gguf", 1)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("import sys; sys.exit('out of luck')", "ended with code 1: out of luck"),
        ("import os; os._exit(7)", "ended with code 7: it said nothing"),
    ],
)
def test_a_process_that_dies_says_why(
    program: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dies.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}")
    monkeypatch.setattr(bench_worker, "__name__", "dies")
    with pytest.raises(PeerError, match=expected):
        Worker("shortlist", "dense", tmp_path, 1)


def test_a_process_that_dies_between_requests_says_so(tiny_random: Path) -> None:
    with Worker("shortlist", "dense", tiny_random, 1) as worker:
        worker._process.kill()
        worker._process.wait()
        with pytest.raises(PeerError, match="ended with code -9"):
            worker.decode([1], 1)
