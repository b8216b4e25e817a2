"""Channels pay from where a line through what was timed crosses dense."""

import numpy as np
import pytest
from builders import tiny_gguf

from shortlist import checkpoints
from shortlist.calibrate.payoff import TIMED_KEEPS, Payoff, time_channels
from shortlist.models.decoder import Decoder


@pytest.mark.parametrize(
    ("seconds", "keep"),
    [
        ({0.9: 1.1, 0.4: 0.6}, 0.795),  # crosses 0.995, half a per cent below dense
        ({0.9: 0.9, 0.4: 0.8}, 1.0),  # always faster
        ({0.9: 1.3, 0.4: 1.1}, None),  # never
        ({0.9: 0.8, 0.4: 0.9}, 1.0),  # noise, yet faster
    ],
)
def test_the_largest_keep_that_pays(seconds, keep):
    assert Payoff(1.0, seconds).largest_keep == (keep and pytest.approx(keep))


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
