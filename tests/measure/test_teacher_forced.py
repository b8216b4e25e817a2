"""Every token of a text is predicted once, from what really came before it in its window."""

import numpy as np
import pytest

from shortlist.measure.teacher_forced import WINDOW, windows


class Echo:
    """A decoder whose hidden state is the token that it was given, and how many it has seen."""

    def new_cache(self, capacity):
        return {"capacity": capacity, "length": 0}

    def forward(self, tokens, cache):
        assert tokens.dtype == np.int32
        seen = cache["length"] + np.arange(1, len(tokens) + 1)
        cache["length"] += len(tokens)
        assert cache["length"] <= cache["capacity"]
        return np.stack([tokens, seen], axis=1).astype(np.float32)


@pytest.mark.parametrize("length", [1, 2, WINDOW, WINDOW + 1, 2 * WINDOW + 7])
def test_with_a_prefix_every_token_is_a_target(length):
    tokens = np.arange(1000, 1000 + length)
    batches = list(windows(Echo(), tokens, prefix=[7, 9]))
    np.testing.assert_array_equal(np.concatenate([targets for _, targets in batches]), tokens)
    for hidden, targets in batches:
        assert hidden[0, 0] == 9
        np.testing.assert_array_equal(hidden[1:, 0], targets[:-1])
        np.testing.assert_array_equal(hidden[:, 1], np.arange(2, len(targets) + 2))


def test_without_a_prefix_the_first_token_of_a_window_is_no_target():
    tokens = np.arange(WINDOW + 3)
    targets = np.concatenate([targets for _, targets in windows(Echo(), tokens)])
    np.testing.assert_array_equal(targets, [t for t in tokens if t % WINDOW])


def test_a_last_window_of_one_token_predicts_nothing():
    assert len(list(windows(Echo(), np.arange(WINDOW + 1)))) == 1


def test_progress_ends_at_one():
    shares = []
    list(windows(Echo(), np.arange(WINDOW + 3), progress=shares.append))
    assert shares == [WINDOW / (WINDOW + 3), 1.0]
