"""A model that caps its logits: every path to a token or a probability goes through the cap."""

import numpy as np
import pytest
from builders import tiny_hf
from heads import low_rank_head

import shortlist
from shortlist.engine.sampling import sample
from shortlist.estimators.low_rank import LowRank
from shortlist.selectors import Confidence
from shortlist.sites.head import Head, softcap

PROMPT = [5, 17, 200, 3, 3, 99]
OPTIONS = [{"temperature": 0.0}, {"temperature": 1.0, "seed": 7}, {"temperature": 1.3, "top_k": 9, "seed": 3}]
CAP = 5.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("capped")
    tiny_hf("gemma3n", path)
    return path


@pytest.fixture(scope="module", params=["dense", "exact"])
def model(request, folder):
    with shortlist.load(folder, weights="q8", head=request.param) as loaded:
        assert loaded.config.logit_cap == CAP
        assert loaded.head.name == request.param
        yield loaded


def uncapped(model, tokens) -> np.ndarray:
    """Logits of the last position, before the cap."""
    return Head(model.decoder.head_rows).logits(model.hidden(tokens)[-1])[0]


def test_a_head_caps_each_kind_of_answer(model):
    hidden = model.hidden(PROMPT)
    plain = uncapped(model, PROMPT)
    assert np.abs(plain).max() > 0.9 * CAP, "the cap must matter"
    expected = softcap(plain, CAP)
    head, some = model.head, np.array([7, 3, 200])
    assert np.array_equal(head.logits(hidden[-1])[0], expected)
    assert np.array_equal(head.logits_together(hidden)[-1], expected)
    assert np.array_equal(head.exact_rows(hidden[-1], some), expected[some])
    assert np.array_equal(model.logits(PROMPT)[-1], expected)
    assert head.argmax(hidden[-1])[0] == expected.argmax()
    if head.bounded:
        lower, upper = head.bounds(hidden[-1])
        assert ((lower <= expected) & (expected <= upper)).all()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_tokens_are_drawn_from_capped_logits(model, options):
    from shortlist.engine.options import GenerationOptions

    [token] = model.generate(PROMPT, max_tokens=1, **options).tokens
    capped = softcap(uncapped(model, PROMPT), CAP)
    assert token == sample(capped, GenerationOptions(**options), len(PROMPT))


def test_log_probabilities_are_of_capped_logits(model):
    generation = model.generate(PROMPT, max_tokens=1, logprobs=2)
    capped = softcap(uncapped(model, PROMPT), CAP).astype(np.float64)
    total = np.logaddexp.reduce(capped)
    assert generation.logprobs is not None
    assert generation.logprobs[0].chosen.logprob == pytest.approx(capped.max() - total, abs=1e-5)
    scored = model.score([*PROMPT, *generation.tokens])[-1]
    assert scored is not None
    assert scored.chosen.logprob == pytest.approx(capped.max() - total, abs=1e-5)


def test_an_estimated_head_draws_as_the_dense_one_where_it_reads_all(folder):
    with shortlist.load(folder, weights="q8", head="dense") as model:
        rows, hidden = model.decoder.head_rows, model.hidden(list(range(2, 200)))
        state = LowRank(32).fit(rows, hidden)
        every = low_rank_head(rows, state, Confidence(1e6, most=1), CAP)
        assert np.array_equal(every.logits(hidden[-1])[0], model.head.logits(hidden[-1])[0])
        estimate = every.estimate(hidden[-1])
        assert estimate is not None
        values, reach = estimate
        assert (np.abs(values) <= CAP).all()
        assert (reach <= CAP).all()
