from pathlib import Path

import pytest

from shortlist.evaluate.peers import PeerError
from shortlist.evaluate.report import speed


class FakeWorker:
    """Decodes in so many seconds each; the first time is a warm-up."""

    seconds = (9.0, 2.0, 8.0, 4.0)

    def __init__(self, *asked):
        self.asked, self.left = asked, list(self.seconds)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def decode(self, prompt, count):
        return {"seconds": self.left.pop(0), "bytes_per_token": 5e6}


@pytest.fixture(autouse=True)
def prompt(monkeypatch):
    monkeypatch.setattr(speed, "prompt_tokens", lambda path: [1, 2, 3])


def test_a_peer_s_speed_is_the_median_after_a_warm_up(monkeypatch):
    monkeypatch.setattr(speed, "Worker", FakeWorker)
    shares = []
    found = speed.peer_speed("llama.cpp", Path("m.gguf"), 40, lambda _, share: shares.append(share))
    assert found == {"name": "llama.cpp", "tokens_per_s": 10.0, "bytes_per_token": 5e6}
    assert shares == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_a_peer_that_cannot_run_says_why(monkeypatch):
    def refuse(*_):
        raise PeerError("it needs a GGUF file")

    monkeypatch.setattr(speed, "Worker", refuse)
    found = speed.peer_speed("llama.cpp", Path("folder"), 40, lambda *_: None)
    assert found == {"name": "llama.cpp", "error": "it needs a GGUF file"}
