"""The model writes its own calibration text: from every start, and the same each time."""

import numpy as np
import pytest

from shortlist.fit import own_text
from shortlist.fit.own_text import write_passages


def test_states_and_the_tokens_drawn_after_them(decoder, tokenizer):
    shares = []
    hidden, targets = write_passages(decoder, tokenizer, 500, shares.append)
    assert hidden.shape == (500, 96)
    assert targets.shape == (500,)
    assert len(np.unique(targets)) > 100
    assert shares == sorted(shares)
    assert shares[-1] == 1
    # Within a passage, a state holds half of the one before it and the token that was drawn after that.
    np.testing.assert_array_equal(hidden[1], 0.5 * hidden[0] + decoder.embedding[targets[0]])


def test_the_same_text_each_time(decoder, tokenizer):
    first, again = (write_passages(decoder, tokenizer, 50, lambda _: None) for _ in range(2))
    np.testing.assert_array_equal(first[1], again[1])


@pytest.mark.parametrize("template", [None, "{{ messages }}"])
def test_a_chat_model_answers_too(decoder, tokenizer, monkeypatch, template):
    monkeypatch.setattr(tokenizer, "chat_template", template, raising=False)
    monkeypatch.setattr(own_text, "PASSAGE", 2)
    prompts = []
    forward = decoder.forward

    def record(tokens, cache):
        prompts.append(tokens.tolist())
        return forward(tokens, cache)

    monkeypatch.setattr(decoder, "forward", record)
    write_passages(decoder, tokenizer, 40, lambda _: None)
    starts = [prompt for prompt in prompts if prompt[0] == 1]
    assert any(prompt[1] == 4 for prompt in starts) == (template is not None)
    assert len({tuple(prompt) for prompt in starts}) > 10


def test_a_model_that_ends_at_once_still_gives_states(decoder, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "eos_ids", frozenset(range(600)), raising=False)
    hidden, _ = write_passages(decoder, tokenizer, 40, lambda _: None)
    assert hidden.shape == (40, 96)
