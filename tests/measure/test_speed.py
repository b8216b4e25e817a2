import numpy as np

from shortlist.measure import speed


class Clock:
    """Time passes only while a head or the decoder works."""

    now = 0.0

    def __call__(self):
        return self.now


class Decoder:
    def __init__(self, clock):
        self.clock, self.room = clock, 0

    def new_cache(self, capacity):
        self.room = capacity
        return None

    def forward(self, tokens, cache):
        self.room -= len(tokens)
        assert self.room >= 0
        self.clock.now += 2.0


class Head:
    """Its queries take what the hidden state says, and now and then something else interferes."""

    def __init__(self, clock, factor):
        self.clock, self.factor, self.calls = clock, factor, 0

    def argmax(self, hidden):
        self.calls += 1
        self.clock.now += self.factor * float(hidden[0]) + 100 * (self.calls % speed.ROUNDS == 0)


def test_a_token_is_a_step_and_the_mean_query(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(speed, "perf_counter", clock)
    hidden = np.array([[1.0], [3.0]], np.float32)
    heads = {"dense": Head(clock, 2.0), "exact": Head(clock, 1.0)}
    shares = []
    assert speed.token_seconds(Decoder(clock), heads, hidden, [5, 6], shares.append) == {
        "dense": 6.0,
        "exact": 4.0,
    }
    assert shares == [0.5, 1.0]
