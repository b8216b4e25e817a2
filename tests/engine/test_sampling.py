import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortlist._native import gumbel_noise
from shortlist.engine.noise import MAX_NOISE, MIN_NOISE
from shortlist.engine.options import SamplingOptions
from shortlist.engine.sampling import REACH, first_maximum, nucleus, reaching, sample, temper, top_k
from shortlist.errors import UsageError

# Few distinct values, so that ties are common.
tied = st.lists(st.integers(-4, 4).map(lambda i: i / 2), min_size=1, max_size=40)
spread = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=40)
logit_lists = tied | spread


def in_order(values):
    return sorted(range(len(values)), key=lambda row: (-values[row], row))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -1.0),
        ("temperature", 100.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", -1),
        ("top_p", -0.01),
        ("top_p", 1.01),
        ("top_p", math.nan),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", math.inf),
        ("frequency_penalty", 2.1),
        ("frequency_penalty", math.nan),
        ("presence_penalty", -2.1),
        ("logit_bias", {1: 100.5}),
        ("logit_bias", {1: math.nan}),
        ("logit_bias", dict.fromkeys(range(1025), 1.0)),
        ("seed", -1),
        ("seed", 2**64),
    ],
)
def test_values_out_of_range_are_named(field, value):
    with pytest.raises(UsageError, match=field.replace("_", "[- ]")):
        SamplingOptions(**{field: value})


def test_greedy_takes_the_lowest_of_equal_rows():
    logits = np.array([1, 3, 3, 2], dtype=np.float32)
    assert sample(logits, SamplingOptions(), 0) == 1


GREEDY = [{"temperature": 0.0099}, {"temperature": 1e-310}, {"temperature": 1.0, "top_p": 0.0}]


@pytest.mark.parametrize("options", GREEDY)
def test_what_leaves_only_the_greatest_is_greedy(options):
    assert SamplingOptions(**options).greedy
    logits = np.array([1, 3, 2.9999, 3], dtype=np.float32)
    assert {sample(logits, SamplingOptions(**options, seed=seed), 0) for seed in range(20)} == {1}
    assert temper(logits, SamplingOptions(**options)).tolist() == logits.astype(np.float64).tolist()


def test_the_least_temperature_and_the_least_share_that_draw():
    assert not SamplingOptions(temperature=0.01).greedy
    assert not SamplingOptions(temperature=1.0, top_p=1e-9).greedy
    logits = np.array([3, 2.999], dtype=np.float32)
    drawn = {sample(logits, SamplingOptions(temperature=0.01, seed=seed), 0) for seed in range(20)}
    assert drawn == {0, 1}


@given(logit_lists, st.integers(1, 50))
def test_top_k_is_the_head_of_the_order(values, k):
    assert top_k(np.array(values), k).tolist() == in_order(values)[:k]


@given(logit_lists, st.floats(0.01, 0.999))
def test_nucleus_is_the_shortest_head_of_the_order_that_holds_the_share(values, share):
    kept = nucleus(np.arange(len(values)), np.array(values), share)
    order = in_order(values)
    assert kept.tolist() == order[: len(kept)]
    weights = np.exp(np.array(values)[order] - max(values))
    held = np.cumsum(weights) / weights.sum()
    assert len(kept) == 1 or held[len(kept) - 2] <= share + 1e-9
    assert held[len(kept) - 1] >= share - 1e-9


def chain(logits, temperature, k, p, min_p, seed):
    """What `sample` says at position 9, written with loops."""
    scaled = [float(logit) / temperature for logit in logits]
    rows = in_order(scaled)[: k or None]
    weights = np.exp(np.array(scaled)[rows] - max(scaled))
    before = np.concatenate(([0.0], np.cumsum(weights)[:-1]))
    if p < 1:
        rows = [row for row, held in zip(rows, before, strict=True) if held < p * weights.sum()]
    rows = [row for row in rows if not min_p or scaled[row] >= max(scaled) + math.log(min_p)]
    noise = gumbel_noise(seed, 9, np.arange(len(logits)))
    return max(rows, key=lambda row: (scaled[row] + float(noise[row]), -row))


@given(
    logit_lists,
    st.sampled_from([0.5, 1.0, 3.0]),
    st.integers(0, 5),
    st.sampled_from([0.1, 0.6, 1.0]),
    st.sampled_from([0.0, 0.05, 1.0]),
    st.integers(0, 1000),
)
def test_sample_equals_the_chain_written_with_loops(values, temperature, k, p, min_p, seed):
    logits = np.array(values, dtype=np.float32)
    options = SamplingOptions(temperature=temperature, top_k=k, top_p=p, min_p=min_p, seed=seed)
    assert sample(logits, options, 9) == chain(logits, temperature, k, p, min_p, seed)


@pytest.mark.parametrize("block", range(4))
def test_the_same_cases_in_every_run_equal_the_chain(block):
    generator = np.random.default_rng(block)
    for _ in range(150):
        count = generator.integers(1, 30)
        few = generator.choice([-1.0, 0.0, 0.5, 2.0], count)
        logits = (few if generator.random() < 0.6 else generator.normal(0, 5, count)).astype(np.float32)
        temperature = generator.choice([0.5, 1.0, 3.0])
        k = int(generator.choice([0, 1, 2, 5, count]))
        p, min_p = generator.choice([1.0, 0.1, 0.5, 0.8]), generator.choice([0.0, 0.05, 0.5, 1.0])
        seed = int(generator.integers(2**32))
        options = SamplingOptions(temperature=temperature, top_k=k, top_p=p, min_p=min_p, seed=seed)
        assert sample(logits, options, 9) == chain(logits, temperature, k, p, min_p, seed)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("best", [0.0, -30.0, 1e4])
def test_rows_within_reach_of_the_best_are_looked_at_and_no_others(temperature, best):
    reach = temperature * REACH
    logits = np.array([best, best - reach, best - 0.999 * reach, best - 1.001 * reach - 0.01], np.float32)
    options = SamplingOptions(temperature=temperature, seed=0)
    assert reaching(logits, logits[0], options).tolist() == [0, 1, 2]
    for greedy in (SamplingOptions(), SamplingOptions(temperature=temperature, top_p=0.0)):
        assert reaching(logits, logits[0], greedy).tolist() == [0]


def test_reach_is_what_noise_can_make_up_for():
    assert REACH == MAX_NOISE - MIN_NOISE


def test_frequencies_are_the_softmax():
    logits = np.array([2.0, 1.0, 0.0, -3.0], dtype=np.float32)
    options = SamplingOptions(temperature=1.5, seed=3)
    draws = [sample(logits, options, position) for position in range(2_000)]
    expected = np.exp(logits / 1.5) / np.exp(logits / 1.5).sum()
    assert np.allclose(np.bincount(draws, minlength=4) / len(draws), expected, atol=0.04)


def test_the_seed_decides():
    logits = np.linspace(0, 1, 1000, dtype=np.float32)
    options = SamplingOptions(temperature=1.0, seed=3)
    same = [sample(logits, options, 5) for _ in range(2)]
    other = sample(logits, dataclasses.replace(options, seed=4), 5)
    assert same[0] == same[1] != other


def test_of_equal_rows_in_any_order_the_lowest_is_first():
    assert first_maximum(np.array([5, 2, 9, 1]), np.array([1.0, 1.0, 1.0, 0.0])) == 2
