from pathlib import Path

import pytest

from shortlist.peers import PeerError
from shortlist.report import speed


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


def test_so_many_positions_are_timed_after_a_prompt_of_the_text(monkeypatch):
    asked = []

    def timed(decoder, heads, hidden, prompt, progress):
        asked.append((decoder, sorted(heads), len(hidden), prompt))
        return dict.fromkeys(heads, 0.5)

    class Decoder:
        layer_bytes = 1

        def new_cache(self, capacity):
            return None

        def forward(self, tokens, cache):
            return tokens[:, None].astype("float32")

    monkeypatch.setattr(speed, "token_seconds", timed)
    first, second = Decoder(), Decoder()
    variants = {
        "dense": speed.Variant(first, None),
        "exact": speed.Variant(first, None),
        "recipe": speed.Variant(second, None),
    }
    found = speed._seconds(variants, [7], list(range(100)), 12, lambda _: None)
    assert found == {"dense": 0.5, "exact": 0.5, "recipe": 0.5}
    prompt = [7, *range(16)]
    assert asked == [(first, ["dense", "exact"], 12, prompt), (second, ["recipe"], 12, prompt)]
