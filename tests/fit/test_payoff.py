"""Channels pay up to the share from which on all smaller ones are faster than dense."""

from types import SimpleNamespace

import numpy as np
import pytest
from builders import tiny_gguf

from shortlist import checkpoints
from shortlist.fit.channels import unfitted_parts
from shortlist.fit.payoff import CONTEXT, TIMED_KEEPS, Payoff, step, time_channels
from shortlist.measure.interleaved import Times
from shortlist.model.decoder import Decoder as RealDecoder
from shortlist.sites.base import sites_of


@pytest.mark.parametrize(
    ("seconds", "keep"),
    [
        ({0.9: 0.9, 0.65: 0.8, 0.4: 0.7}, 0.9),
        ({0.9: 1.1, 0.65: 0.9, 0.4: 0.8}, 0.65),
        ({0.9: 1.3, 0.65: 1.2, 0.4: 1.1}, None),
        ({0.9: 0.9, 0.65: 1.1, 0.4: 0.9}, 0.4),  # of which one must be noise
        ({0.9: 0.999, 0.65: 0.998, 0.4: 0.997}, None),  # too little to be believed
        ({0.4: 0.7, 0.9: 0.9, 0.65: 0.8}, 0.9),  # whatever the order
    ],
)
def test_the_largest_keep_that_pays(seconds, keep):
    times = {share: Times(np.full(24, value)) for share, value in seconds.items()}
    payoff = Payoff.of(Times(np.ones(24)), times)
    assert payoff.largest_keep == keep
    assert payoff.by_keep == pytest.approx(seconds)


class Decoder:
    """Its steps take as long as the channels that its thresholds leave, in units of a fake clock."""

    def __init__(self, clock, inputs=None, seconds=1.0):
        self.clock, self.inputs, self.seconds = clock, inputs or {}, seconds
        self.thresholds, self.steps = dict.fromkeys(self.inputs, 0.0), []
        self.ran: list | None = None

    def new_cache(self, capacity):
        return SimpleNamespace(length=0, truncate=lambda length: None, capacity=capacity)

    def all_inputs(self, tokens):
        assert len(tokens) == CONTEXT
        return self.inputs

    def set_threshold(self, site, value):
        self.thresholds[site] = value

    def share(self):
        kept = [np.mean(np.abs(x) >= self.thresholds[site]) for site, x in self.inputs.items()]
        return float(np.mean(kept)) if kept else 1.0

    def forward(self, tokens, cache):
        self.steps.append((len(tokens), self.share()))
        if self.ran is not None:
            self.ran.append(self)
        self.clock[0] += self.seconds * (self.share() if self.inputs else 1.0)


def test_each_share_is_timed_with_thresholds_of_its_own(monkeypatch):
    rng = np.random.default_rng(0)
    inputs = {
        "layers.0.o": rng.normal(size=(CONTEXT, 100)),
        "layers.1.o": 50 * rng.normal(size=(CONTEXT, 100)),  # a threshold for both would keep all or nothing
    }
    clock, heard = [0.0], []
    monkeypatch.setattr("shortlist.measure.interleaved.perf_counter", lambda: clock[0])
    dense, decoder = Decoder(clock), Decoder(clock, inputs, seconds=1.25)
    dense.ran = decoder.ran = ran = []
    payoff = time_channels(dense, decoder, np.arange(100), heard.append)
    assert payoff.dense == pytest.approx(1.0)
    assert payoff.by_keep == pytest.approx({0.9: 1.125, 0.65: 0.8125, 0.4: 0.5}, abs=0.01)
    assert payoff.largest_keep == 0.65, "1.25 * 0.65 is less than dense, 1.25 * 0.9 is not"
    assert heard[-1] == 1
    assert heard == sorted(heard)
    assert {count for count, _ in decoder.steps} == {CONTEXT, 1}
    timed = ran[1 + len(TIMED_KEEPS) :]
    assert timed == [dense, decoder] * (len(timed) // 2), "no decoder finds its own weights in the cache"


def test_a_step_stays_at_its_position(tmp_path):
    tiny_gguf("llama", tmp_path / "tiny.gguf", "Q8_0")
    with checkpoints.open_checkpoint(tmp_path / "tiny.gguf") as checkpoint:
        decoder = RealDecoder(checkpoint, threads=1)
    tokens = np.arange(CONTEXT, dtype=np.int32)
    once = step(decoder, tokens)
    for _ in range(3):  # there is room for one token only
        once()


def test_the_channels_of_a_real_decoder_are_timed(tmp_path):
    tiny_gguf("llama", tmp_path / "tiny.gguf", "Q8_0")
    with checkpoints.open_checkpoint(tmp_path / "tiny.gguf") as checkpoint:
        parts = unfitted_parts(sites_of(checkpoint, "down"))
        dense, decoder = (RealDecoder(checkpoint, threads=1, parts=some) for some in ({}, parts))
    before = decoder.channels_read
    payoff = time_channels(dense, decoder, np.arange(64, dtype=np.int32))
    assert tuple(payoff.by_keep) == TIMED_KEEPS
    assert min(payoff.dense, *payoff.by_keep.values()) > 0
    assert all(read > before[site] for site, read in decoder.channels_read.items())
