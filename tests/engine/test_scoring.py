"""Log-probabilities of given text, where the model caps its logits."""

import numpy as np
import pytest
from builders import tiny_hf

import shortlist

TOKENS = [5, 17, 200, 3, 3, 99, 250, 7, 31, 64, 128, 2, 11, 90, 41, 8, 77, 12, 6, 40]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    values = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return values - np.log(np.exp(values).sum(-1, keepdims=True))


@pytest.fixture(scope="module")
def capped(tmp_path_factory):
    """A model that caps its logits at 5, and what transformers says of `TOKENS`."""
    import torch

    folder = tmp_path_factory.mktemp("capped")
    reference = tiny_hf("gemma3n", folder)
    with torch.no_grad():
        expected = reference(torch.tensor([TOKENS])).logits[0].numpy()
    assert np.abs(expected).max() > 4, "the cap must matter"
    with shortlist.load(folder) as model:
        yield model, expected


def test_scores_are_of_capped_logits(capped):
    model, expected = capped
    expected = log_softmax(expected)
    scores = model.score(TOKENS, logprobs=3)
    assert scores[0] is None
    for place in range(1, len(TOKENS)):
        entry = scores[place]
        assert entry.chosen.token == TOKENS[place]
        assert entry.chosen.logprob == pytest.approx(expected[place - 1, TOKENS[place]], abs=2e-3)
        assert [top.logprob for top in entry.top] == pytest.approx(
            np.sort(expected[place - 1])[:-4:-1].tolist(), abs=2e-3
        )


def test_logits_are_capped(capped):
    model, expected = capped
    assert np.allclose(model.logits(TOKENS), expected, atol=2e-3)
