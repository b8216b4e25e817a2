"""A budget goes where a byte is cheapest, and stays within its limit when losses do not add up."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortlist.fit.spend import ROUNDS, Candidate, lowered, plan, spend, steps_by_price

LOSSES = st.integers(0, 10_000).map(lambda loss: loss / 1000)


@st.composite
def all_options(draw):
    """Up to three places with up to four options each."""
    return [
        Candidate(f"layers.{place}.o", 1 - saved / 10, saved, draw(LOSSES))
        for place in range(draw(st.integers(1, 3)))
        for saved in draw(st.lists(st.integers(1, 9), max_size=4))
    ]


@given(all_options())
def test_no_choice_that_saves_as_much_loses_less(options):
    steps = steps_by_price(options)
    by_place = [
        [Candidate("", 1, 0, 0), *some] for _, some in itertools.groupby(options, lambda option: option.site)
    ]
    for count in range(len(steps) + 1):
        chosen = plan(steps[:count]).values()
        saved, loss = sum(o.saved for o in chosen), sum(o.loss for o in chosen)
        for other in itertools.product(*by_place):
            if sum(o.saved for o in other) >= saved:
                assert sum(o.loss for o in other) >= loss - 1e-9


@given(all_options())
def test_steps_save_bytes_at_rising_prices(options):
    steps = steps_by_price(options)
    assert all(step.saved > 0 for step in steps)
    prices = [step.price for step in steps]
    assert prices == sorted(prices)


def test_the_cheapest_byte_comes_first():
    options = [
        Candidate("layers.0.o", 0.9, 10, 1.0),
        Candidate("layers.0.o", 0.5, 50, 9.0),
        Candidate("layers.1.o", 0.9, 10, 0.5),
        Candidate("layers.1.o", 0.8, 20, 5.0),
        Candidate("layers.1.o", 0.5, 50, 6.0),  # dearer options in between are left out
    ]
    steps = steps_by_price(options)
    assert [(step.candidate.site, step.candidate.keep) for step in steps] == [
        ("layers.1.o", 0.9),
        ("layers.0.o", 0.9),
        ("layers.1.o", 0.5),
        ("layers.0.o", 0.5),
    ]
    assert [step.saved for step in steps] == [10, 10, 40, 40]
    assert plan(steps[:3]) == {"layers.1.o": options[4], "layers.0.o": options[0]}


@given(st.integers(0, 60), st.floats(0.1, 5), st.floats(0.5, 2))
def test_spending_stays_within_the_limit_however_losses_combine(count, factor, power):
    steps = steps_by_price([Candidate(f"layers.{i}.o", 0.5, 1, 1 + i / 10) for i in range(count)])
    asked = []

    def measure(some):
        asked.append(len(some))
        return factor * sum(step.loss for step in some) ** power

    found = list(spend(steps, 20.0, measure))
    chosen, loss = found[-1] if found else ([], 0.0)
    assert [len(some) for some, _ in found] == sorted({len(some) for some, _ in found})
    assert all(cost <= 20 for _, cost in found)
    assert len(asked) <= ROUNDS
    assert list(chosen) == steps[: len(chosen)]
    assert loss <= 20
    if chosen:
        assert len(chosen) in asked
        assert loss == measure(chosen)
    if power == 1:  # what adds up is found exactly
        assert len(chosen) == count or measure(steps[: len(chosen) + 1]) > 20


@pytest.mark.parametrize("factor", [0.2, 1.0, 3.0])
def test_few_measurements_find_the_last_step_where_losses_add_up(factor):
    steps = steps_by_price([Candidate(f"layers.{i}.o", 0.5, 1, 1.0) for i in range(100)])
    *_, (chosen, _) = spend(steps, 42.5, lambda some: factor * len(some))
    assert len(chosen) == min(100, int(42.5 / factor))


def test_options_that_save_nothing_are_left_out():
    assert (
        steps_by_price([Candidate("layers.0.o", 1.0, 0, -1.0), Candidate("layers.1.o", 0.9, -5, 0.0)]) == []
    )


def test_nothing_is_spent_where_the_first_step_costs_too_much():
    steps = steps_by_price([Candidate("layers.0.o", 0.5, 1, 1.0)])
    assert list(spend(steps, 0.5, lambda some: 1.0)) == []
    assert list(spend([], 0.5, lambda some: 1.0)) == []


def test_lowered_steps_cost_a_share_and_are_fewer():
    steps = steps_by_price(
        [Candidate(f"layers.{i}.o", 0.5, 1, loss) for i, loss in enumerate([1.0, 2.0, 7.0])]
    )
    assert lowered(steps, 0.7) == steps[:2]
    assert lowered(steps, 0.3) == steps[:2], "0.3 of 10 are the first two"
    assert lowered(steps, 0.29) == steps[:1]
    assert lowered(steps, 0.05) == []
    assert lowered(steps, 1.0) == steps[:2], "one fewer at least"
    assert lowered([], 0.7) == []


def asked(steps, limit, measure):
    """How many steps each measurement is of, and how many are found in the end."""
    counts, found = [], 0

    def counted(some):
        counts.append(len(some))
        return measure(some)

    for some, _ in spend(steps, limit, counted):
        found = len(some)
    return counts, found


def some_steps(*losses):
    return steps_by_price([Candidate(f"layers.{i}.o", 0.5, 1, loss) for i, loss in enumerate(losses)])


def test_steps_that_cost_nothing_are_all_measured_at_once():
    assert asked(some_steps(*[0.0] * 10), 1.0, lambda some: 0.0) == ([10], 10)
    assert asked(some_steps(*[-1.0] * 10), 1.0, lambda some: 0.0) == ([10], 10)
    assert asked(some_steps(0.5), 1.0, lambda some: 0.5) == ([1], 1)


def test_steps_that_were_expected_to_cost_nothing_and_do_are_halved():
    assert asked(some_steps(*[0.0] * 8), 2.5, len) == ([8, 4, 2, 3], 2)


def test_measured_over_expected_says_how_far_to_go_next():
    assert asked(some_steps(*[1.0] * 20), 6.0, lambda some: 2 * len(some)) == ([6, 3, 4], 3)
    assert asked(some_steps(*[1.0] * 20), 6.0, lambda some: 0.5 * len(some)) == ([6, 12, 16, 14, 13], 12)


def test_a_candidate_at_the_price_of_its_neighbours_is_left_out():
    (step,) = steps_by_price([Candidate("layers.0.o", 0.9, 10, 1.0), Candidate("layers.0.o", 0.8, 20, 2.0)])
    assert (step.saved, step.loss, step.candidate.keep) == (20, 2.0, 0.8)
