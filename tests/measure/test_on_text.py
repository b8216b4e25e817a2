"""Two whole models on one text: each head gets the hidden states of its own decoder."""

from types import SimpleNamespace

import numpy as np
import pytest

from shortlist.measure.on_text import Pair, compare_on_text


class ShiftedDecoder:
    """Its hidden state [1] is the token plus a shift; it counts what it is fed."""

    def __init__(self, shift, layer_bytes):
        self.shift, self.layer_bytes, self.fed = shift, layer_bytes, 0

    def new_cache(self, capacity):
        return None

    def forward(self, tokens, cache):
        self.fed += len(tokens)
        return (tokens[:, None] + self.shift).astype(np.float32)


class NextHead:
    """Foretells the token that comes after the hidden state, of ten."""

    def logits(self, hidden):
        values = np.zeros(10, np.float32)
        values[(int(hidden[0]) + 1) % 10] = 5
        return values, SimpleNamespace(rows=10, bytes=7)

    def argmax(self, hidden):
        return int(np.argmax(self.logits(hidden)[0])), SimpleNamespace(rows=10, bytes=7)

    def exact_rows(self, hidden, indices):
        return self.logits(hidden)[0][indices]


TOKENS = list(range(10)) * 60  # two windows


def test_a_decoder_that_foretells_wrongly_agrees_nowhere():
    dense, other = (Pair(ShiftedDecoder(s, b), NextHead()) for s, b in ((0, 100), (1, 60)))
    heard = []
    quality = compare_on_text(TOKENS, [], dense, other, heard.append)
    assert quality.tokens == 598  # the first token of a window is nobody's target
    assert quality.shortlisted.agreement == 0
    assert quality.shortlisted.recall == 1, "of its own values"
    assert np.log(quality.shortlisted.perplexity / quality.dense.perplexity) == pytest.approx(5, rel=1e-5)
    assert (quality.dense.bytes_per_token, quality.shortlisted.bytes_per_token) == (107, 67)
    assert heard[-1] == 1


@pytest.mark.parametrize("shared", [True, False])
def test_the_rest_is_left_out_when_it_is_enough(shared):
    first = Pair(ShiftedDecoder(0, 100), NextHead())
    other = first if shared else Pair(ShiftedDecoder(0, 100), NextHead())
    quality = compare_on_text(TOKENS, [], first, other, enough=lambda: True)
    assert quality.tokens == 511
    assert first.decoder.fed == other.decoder.fed == 511


def test_a_decoder_that_both_share_reads_the_text_once():
    decoder = ShiftedDecoder(0, 100)
    quality = compare_on_text(TOKENS, [9], Pair(decoder, NextHead()), Pair(decoder, NextHead()))
    assert decoder.fed == quality.tokens == 600
    assert quality.shortlisted.agreement == 1
    assert quality.shortlisted.perplexity_change == 0
