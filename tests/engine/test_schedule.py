import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortlist.engine.schedule import LEAST, StepCost, read_budget, share_out

lengths = st.lists(st.integers(1, 3000), max_size=9)


class Known(StepCost):
    """A cost that is known: 1 ms for a step, 1 for a decoded token, `per_read` for one that is read."""

    def __init__(self, per_read=1e-3):
        super().__init__()
        self.per_read = per_read

    def seconds(self, decoded, read, attended):
        return 1e-3 * (1 + decoded) + self.per_read * read


@given(lengths, st.integers(0, 4000))
def test_what_is_dealt_is_there_and_wanted(remaining, budget):
    counts = share_out(remaining, budget)
    assert all(0 <= count <= left for count, left in zip(counts, remaining, strict=True))
    assert sum(counts) == min(budget, sum(remaining))


@given(st.lists(st.integers(1, 500), min_size=1, max_size=6), st.integers(1, 64))
def test_every_prompt_is_read_once_and_the_oldest_never_waits(remaining, budget):
    left, steps = list(remaining), 0
    while left:
        counts = share_out(left, budget)
        assert counts[0] >= min(left[0], (budget + 1) // 2)
        left = [length - count for length, count in zip(left, counts, strict=True)]
        left = [length for length in left if length]
        steps += 1
    assert steps == -(-sum(remaining) // budget)


def test_a_short_prompt_does_not_wait_for_a_long_one():
    assert share_out([1000, 20, 300], 100) == [50, 20, 30]
    assert share_out([1000], 100) == [100]
    assert share_out([50, 1000], 101) == [50, 51]
    assert share_out([1000, 30], 41) == [21, 20]
    assert share_out([], 100) == []


def test_without_a_text_that_waits_a_step_is_full():
    assert read_budget(Known(), [1000], [0], [], 0.01, 256) == 256
    assert read_budget(Known(), [100], [0], [], 0.01, 256) == 100


@given(st.integers(1, 8), st.floats(1e-3, 1.0))
def test_a_step_ends_in_time_where_the_least_allows_it(writers, seconds):
    cost = Known()
    budget = read_budget(cost, [500], [0], [10] * writers, seconds, 256)
    assert budget == LEAST or cost.seconds(writers, budget, 0) <= seconds
    assert budget == 256 or cost.seconds(writers, budget + 1, 0) > seconds


def test_some_tokens_of_a_prompt_are_read_whatever_they_cost():
    assert read_budget(Known(per_read=1.0), [500], [0], [10], 0.01, 256) == 16
    assert read_budget(Known(per_read=1.0), [7], [0], [10], 0.01, 256) == 7


def test_a_budget_is_for_what_the_oldest_prompt_and_all_texts_attend_to():
    asked = []

    class Asked(StepCost):
        def chunk(self, *arguments):
            asked.append(arguments)
            return 99

    assert read_budget(Asked(), [300, 20], [40, 50], [10, 20, 30], 0.5, 256) == 99
    assert asked == [(3, 60, 40, 256, 0.5)]


def test_an_infinite_time_reads_prompts_whole():
    assert read_budget(Known(), [4000], [0], [10], float("inf"), 4096) == 4000


@pytest.mark.parametrize("truth", [(2e-3, 1e-3, 5e-4, 1e-4), (1e-2, 5e-3, 8e-3, 0.0)])
def test_a_cost_is_learned_from_steps(truth):
    cost = StepCost()
    steps = [(d, r, 50 * d + 200 * r) for d in range(1, 9) for r in (0, 16, 60, 130)] * 3
    for decoded, read, attended in steps:
        features = (1, decoded, read, attended / 1000)
        cost.observe(decoded, read, attended, sum(a * b for a, b in zip(truth, features, strict=True)))
    for decoded, read, attended in steps[:20]:
        features = (1, decoded, read, attended / 1000)
        expected = sum(a * b for a, b in zip(truth, features, strict=True))
        assert cost.seconds(decoded, read, attended) == pytest.approx(expected, rel=0.15)


def test_a_machine_that_gets_slower_is_noticed():
    cost = StepCost()
    for seconds in [1e-2] * 200 + [5e-2] * 200:
        cost.observe(4, 0, 400, seconds)
    assert cost.seconds(4, 0, 400) == pytest.approx(5e-2, rel=0.2)


def test_a_chunk_is_one_at_least_and_no_more_than_is_there():
    assert Known(per_read=1.0).chunk(2, 20, 0, 100, 0.01) == 1
    assert Known(per_read=0.0).chunk(2, 20, 0, 100, 0.01) == 100
    assert Known(per_read=1e-3).chunk(2, 20, 0, 100, 0.0131) == 10


def test_a_chunk_attends_to_what_was_read_before_and_to_itself():
    class Attended(StepCost):
        def seconds(self, decoded, read, attended):
            return attended

    assert Attended().chunk(2, 20, 10, 100, 170) == 10  # 20 + 10 * (10 + 5)
    assert Attended().chunk(2, 20, 10, 100, 169) == 9


def test_the_cost_before_anything_was_measured():
    cost = StepCost()
    assert cost.seconds(0, 0, 0) == pytest.approx(1e-3)
    assert cost.seconds(2, 3, 4000) == pytest.approx(1e-3 + 2 * 2e-3 + 3 * 1e-3 + 4 * 2e-4)
    cost.observe(1, 0, 0, 0.5)
    assert cost.seconds(1, 0, 0) == pytest.approx(0.5, rel=0.01)  # one step outweighs it


def test_nothing_makes_a_step_shorter():
    cost = StepCost()
    for _ in range(20):
        cost.observe(1, 0, 0, 1e-2)
        cost.observe(1, 100, 0, 5e-3)
    assert cost.seconds(1, 100, 0) >= cost.seconds(1, 0, 0)
