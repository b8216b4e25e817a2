"""Channels pay up to the share from which on all smaller ones are faster than dense."""

import numpy as np
import pytest
from builders import tiny_gguf

from shortlist import checkpoints
from shortlist.fit.payoff import TIMED_KEEPS, Payoff, time_channels
from shortlist.measure.interleaved import Times
from shortlist.model.decoder import Decoder


@pytest.mark.parametrize(
    ("seconds", "keep"),
    [
        ({0.9: 0.9, 0.65: 0.8, 0.4: 0.7}, 0.9),
        ({0.9: 1.1, 0.65: 0.9, 0.4: 0.8}, 0.65),
        ({0.9: 1.3, 0.65: 1.2, 0.4: 1.1}, None),
        ({0.9: 0.9, 0.65: 1.1, 0.4: 0.9}, 0.4),  # of which one must be noise
        ({0.9: 0.999, 0.65: 0.998, 0.4: 0.997}, None),  # too little to be believed
    ],
)
def test_the_largest_keep_that_pays(seconds, keep):
    times = {share: Times(np.full(24, value)) for share, value in seconds.items()}
    payoff = Payoff.of(Times(np.ones(24)), times)
    assert payoff.largest_keep == keep
    assert payoff.by_keep == pytest.approx(seconds)


def test_every_kind_is_timed_at_every_share(tmp_path):
    tiny_gguf("llama", tmp_path / "tiny.gguf", "Q8_0")
    heard = []
    with checkpoints.open_checkpoint(tmp_path / "tiny.gguf") as checkpoint:

        def make(**options):
            return Decoder(checkpoint, threads=1, **options)

        tokens = np.arange(64, dtype=np.int32)
        timed = time_channels(checkpoint, make, make(), tokens, ("o", "down"), heard.append)
    assert set(timed) == {"o", "down"}
    for payoff in timed.values():
        assert tuple(payoff.by_keep) == TIMED_KEEPS
        assert min(payoff.dense, *payoff.by_keep.values()) > 0
    assert heard[-1] == 1
    assert heard == sorted(heard)
