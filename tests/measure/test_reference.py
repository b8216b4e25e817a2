"""What is kept of the dense predictions says nearly what all of them would."""

import numpy as np
import pytest

from shortlist import _native
from shortlist.measure.quality import log_softmax
from shortlist.measure.reference import Reference

WIDTH = 64


class Fixed:
    """A decoder whose hidden states are given by the token."""

    def __init__(self, states):
        self.states = states

    def new_cache(self, capacity):
        return None

    def forward(self, tokens, cache):
        return self.states[tokens]


def setup(vocabulary, noise):
    rng = np.random.default_rng(0)
    table = rng.normal(0, 0.4, (vocabulary, WIDTH)).astype(np.float32)
    rows = _native.Rows.pack(table.view(np.uint8).reshape(-1), "F32", vocabulary, WIDTH)
    states = rng.normal(size=(vocabulary, WIDTH)).astype(np.float32)
    moved = (states + noise * rng.normal(size=states.shape)).astype(np.float32)
    return table, rows, Fixed(states), Fixed(moved), rng.integers(0, vocabulary, 600)


def exact_cost(table, dense, other, tokens):
    """Mean change of the loss, divergence and agreement, over the whole vocabulary."""
    inputs, targets = tokens[:-1], tokens[1:]
    logs, moved = (
        np.stack([log_softmax(table @ decoder.states[t]) for t in inputs]) for decoder in (dense, other)
    )
    rows = np.arange(len(inputs))
    probabilities = np.exp(logs.astype(np.float64))
    return (
        np.mean(logs[rows, targets] - moved[rows, targets]),
        np.mean((probabilities * (logs - moved)).sum(axis=1)),
        np.mean(logs.argmax(axis=1) == moved.argmax(axis=1)),
    )


@pytest.mark.parametrize(
    ("vocabulary", "tolerance"), [(50, 1e-5), (3000, 0.02)], ids=["exact where all rows are kept", "sampled"]
)
def test_costs_are_those_of_the_whole_vocabulary(vocabulary, tolerance):
    table, rows, dense, other, tokens = setup(vocabulary, noise=0.1)
    tokens = tokens[:500]  # one window
    cost = Reference(dense, rows, tokens, []).measure(other)
    loss, divergence, agreement = exact_cost(table, dense, other, tokens)
    assert cost.loss.mean == pytest.approx(loss, abs=tolerance * divergence + 1e-6)
    assert cost.divergence == pytest.approx(divergence, rel=tolerance)
    assert cost.agreement == pytest.approx(agreement, abs=0.005)
    assert cost.loss.error > 0


def test_the_same_decoder_costs_nothing():
    _, rows, dense, _, tokens = setup(3000, noise=0)
    cost = Reference(dense, rows, tokens, [1]).measure(dense)
    assert abs(cost.loss.mean) < 1e-6
    assert abs(cost.divergence) < 1e-6
    assert cost.agreement == 1


def test_progress_reaches_the_end():
    _, rows, dense, other, tokens = setup(100, noise=0.1)
    heard = []
    reference = Reference(dense, rows, tokens, [], heard.append)
    reference.measure(other, heard.append)
    assert heard == [pytest.approx(512 / 600), 1, pytest.approx(512 / 600), 1]
