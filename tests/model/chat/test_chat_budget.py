# ruff: noqa: E501 (a template stands on one line)
import time
import tracemalloc

import pytest

from shortlist.errors import CheckpointError
from shortlist.model.chat import budget as chat_budget
from shortlist.model.chat.budget import Budget, OverBudget
from shortlist.model.chat.template import ChatTemplate

MESSAGES = [{"role": "user", "content": "a</s>b"}]
MEGA = "{% set s = 'x' * 1000000 %}"
KILO = "{% set s = 'x' * 30000 %}"


def doubled(expression: str) -> str:
    return (
        "{% set ns = namespace(v='x') %}{% for i in range(60) %}{% set ns.v = "
        + expression
        + " %}{% endfor %}"
    )


BUILDS = [
    *map(doubled, [
        "[ns.v, ns.v]", "(ns.v, ns.v)", "{'a': ns.v, 'b': ns.v}", "dict(a=ns.v, b=ns.v)", "dict.fromkeys(['a', 'b'], ns.v)",
        "[ns.v] + [ns.v]", "[ns.v] * 2", "[ns.v, ns.v]|tojson", "[ns.v, ns.v]|string", "ns.v ~ ns.v", "ns.v + ns.v",
        "'%s%s' % (ns.v, ns.v)", "'%s%s'|format(ns.v, ns.v)", "'{}{}'.format(ns.v, ns.v)", "'{a}{a}'.format_map({'a': ns.v})",
        "[ns.v, ns.v]|join", "''.join([ns.v, ns.v])", "ns.v.replace('x', 'xx')", "ns.v|replace('x', 'xx')", "[ns.v]|batch(2, ns.v)|list",
        "ns.v.encode('utf-16').decode('latin-1')",
    ]),
    "{% set ns = namespace(l=[]) %}{% for i in range(99999) %}{% set ns.l = ns.l + ['x' * 16000000] %}{% endfor %}",
    "{% set ns = namespace(l=[]) %}{% for i in range(99999) %}{% set ns.l = ns.l + [('x' * 1000000).upper()] %}{% endfor %}",
    "{% set ns = namespace(l=[]) %}{% for i in range(99999) %}{% set t %}{{ 'x' * 1000000 }}{% endset %}{% set ns.l = ns.l + [t] %}{% endfor %}",
    "{% macro m() %}{{ 'x' * 1000000 }}{% endmacro %}{% for i in range(99999) %}{{ m() }}{% endfor %}",
    *(MEGA + each for each in [
        "{{ ([s] * 1000)|join }}", "{{ s.join([''] * 1000) }}", "{{ ([''] * 1000)|join(s) }}", "{{ ('{0}' * 1000).format(s) }}",
        "{{ ('%s' * 1000) % (([s] * 1000)|batch(1000)|list|first) }}", "{{ ([s] * 1000)|tojson }}", "{{ ([s] * 1000)|string }}", "{{ [s] * 1000 }}",
        "{% for i in range(99999) %}{{ s[1:] }}{% endfor %}", "{{ s|map('center', 99999)|list }}",
    ]),
    *(KILO + each for each in ["{{ s.replace('x', s) }}", "{{ s|replace('x', s) }}", "{{ s.replace('', s) }}", "{{ s.translate({120: s}) }}", "{{ s.encode().replace(s[:1].encode(), s.encode()) }}"]),
    *("{{ " + each + " }}" for each in [
        "'x' * 1000000000", "1000000000 * [1]", "'{:999999999}'.format('x')", "'{:{}}'.format('x', 999999999)", "'{:{w}}'.format_map({'': 'x', 'w': 999999999})",
        "'%*d' % (999999999, 1)", "'%-999999999s' % 'x'", "'%.999999999f' % 1.0", "'%999999999d'|format(1)", "'x'|center(999999999)", "'x'.center(999999999)",
        "'x'.ljust(999999999)", "'x'.rjust(999999999)", "'x'.zfill(999999999)", "'\\t'.expandtabs(999999999)", "'\\t'.expandtabs(tabsize=999999999)",
        "'x\\n'|indent(999999999)", "('x\\n' * 1000)|indent('y' * 9999999)", "('x\\n' * 1000)|indent(width=9999999)", "('x ' * 10000)|wordwrap(1, wrapstring='y' * 99999)",
        "[[1]]|tojson(indent=999999999)", "([[1]] * 1000)|tojson(indent='y' * 99999)", "[1]|batch(999999999, 'x')|list", "[1]|slice(999999999)|list",
        "lipsum(n=999999999)", "lipsum(n=1, min=999999998, max=999999999)", "(5).to_bytes(999999999, 'big')", "(5).to_bytes(length=999999999, byteorder='big')",
    ]),
]  # fmt: skip

NUMBERS = [
    "{{ 9 ** 999999999 }}",
    "{{ 2 ** (2 ** 40) }}",
    "{{ 1|round(999999999, 'ceil') }}",
    "{{ 1|round(precision=999999999, method='floor') }}",
    "{% set ns = namespace(n=3) %}{% for i in range(60) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
]

LASTS = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(9999) recursive %}{{ loop(range(99999)) if loop.depth < 4 }}{% endfor %}",
    "{% for c in 'x' * 9000000 %}{% endfor %}",
    "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(40) }}",
]

SEARCHES = [
    *("{% set s = 'x' * 10000000 %}{% for i in range(99999) %}" + each + "{% endfor %}" for each in [
        "{% if 'y' in s %}{% endif %}", "{% if s == s ~ '' %}{% endif %}", "{{ ['y']|select('in', s)|list }}",
        "{{ s|wordcount }}", "{{ s.split('y')|length }}", "{{ s|title|length }}",
    ]),
    "{{ ([[1] * 1000] * 1000)|sum(start=[])|length }}",
    "{{ ('<a href=' * 1000000)|urlize }}",
    "{{ ('<!--' * 1000000)|striptags }}",
    "{{ ('ü' * 3000000).encode('punycode') }}",
]  # fmt: skip


@pytest.mark.parametrize("source", BUILDS)
def test_what_would_build_too_much_is_refused_before(source):
    tracemalloc.start()
    try:
        with pytest.raises(
            CheckpointError, match=r"^the chat template of MODEL builds too much; it may be damaged"
        ):
            ChatTemplate(source, "MODEL", {}).render(MESSAGES)
        assert tracemalloc.get_traced_memory()[1] < 150e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("source", NUMBERS)
def test_numbers_are_bounded(source):
    with pytest.raises(CheckpointError, match=r"^the chat template of MODEL builds too large a number"):
        ChatTemplate(source, "MODEL", {}).render(MESSAGES)


@pytest.mark.parametrize("source", [*LASTS, *SEARCHES])
def test_what_would_last_too_long_is_refused(source, monkeypatch):
    monkeypatch.setattr(chat_budget, "MAX_STEPS", 1 << 12)
    start = time.thread_time()
    with pytest.raises(
        CheckpointError, match=r"^the chat template of MODEL (takes too many steps|builds too much)"
    ):
        ChatTemplate(source, "MODEL", {}).render(MESSAGES)
    assert time.thread_time() - start < 9


def test_the_clock_stops_what_nothing_else_does(monkeypatch):
    monkeypatch.setattr(chat_budget, "MAX_SECONDS", 0.1)
    source = "{% for a in range(99999) %}" + "{% if a %}{% endif %}" * 1000 + "{% endfor %}"
    with pytest.raises(CheckpointError, match=r"^the chat template of MODEL takes longer than 0.1 s"):
        ChatTemplate(source, "MODEL", {}).render(MESSAGES)


def test_other_threads_and_waiting_do_not_count(monkeypatch):
    monkeypatch.setattr(chat_budget, "MAX_SECONDS", 0.1)
    budget = Budget({})
    time.sleep(0.2)
    for _ in range(200):
        budget.step()


def test_every_rendering_has_its_own_budget():
    template = ChatTemplate("{% for i in range(50000) %}{% endfor %}{{ 'x' * 10000000 }}", "MODEL", {})
    assert {len(template.render(MESSAGES)) for _ in range(5)} == {10_000_000}


class TestLongChats:
    def test_steps_grow_with_the_messages(self):
        source = "{% for m in messages %}{% for i in range(60) %}{% endfor %}{% endfor %}"
        assert ChatTemplate(source, "MODEL", {}).render(MESSAGES * 4000) == ""

    def test_texts_that_are_put_together_step_by_step(self):
        source = "{% set ns = namespace(t='', l=[]) %}{% for m in messages %}{% set ns.t = ns.t + m.content %}{% set ns.l = ns.l + [m] %}{% endfor %}{{ ns.t }}{{ ns.l|length }}"
        messages = [{"role": "user", "content": "x" * 1000}] * 400
        assert ChatTemplate(source, "MODEL", {}).render(messages) == "x" * 400_000 + "400"

    def test_a_long_message_is_searched_often(self):
        source = "{% for i in range(1000) %}{% if 'y' in messages[0].content %}{% endif %}{% endfor %}{{ messages[0].content|tojson|length }}"
        messages = [{"role": "user", "content": "x" * 1_000_000}]
        assert ChatTemplate(source, "MODEL", {}).render(messages) == "1000002"


class TestBudget:
    def test_extent_counts_shared_items_each_time(self):
        inputs = {"a": ["x" * 1000]}
        budget = Budget(inputs)
        once = budget.extent(inputs["a"])
        assert once >= 1000
        assert budget.extent([inputs["a"]] * 10) >= 10 * once
        assert Budget({}).extent([["x" * 1000]] * 10) >= 10_000
        assert Budget({}).extent({"x" * 1000: ("y" * 1000, {"z" * 1000})}) >= 3000

    def test_inputs_are_no_cost_where_they_are_only_held(self):
        inputs = {"a": ["x" * 10_000_000]}
        budget = Budget(inputs)
        left = budget.size_left
        budget.made([inputs["a"]] * 10)
        assert 0 < left - budget.size_left < 10_000

    def test_what_is_made_is_taken_off(self):
        budget = Budget({})
        left = budget.size_left
        for value, size in (("x" * 10, 10), (b"x" * 10, 10), (5, 0), (None, 0)):
            assert budget.made(value) is value
            left -= size
            assert budget.size_left == left

    def test_the_last_step_is_taken(self):
        budget = Budget({})
        budget.steps_left = 2
        assert list(budget.counted([1, 2])) == [1, 2]
        with pytest.raises(OverBudget, match="takes too many steps"):
            budget.step()

    def test_all_that_is_left_may_be_made(self):
        budget = Budget({})
        budget.check(budget.size_left)
        budget.spend(budget.size_left)
        with pytest.raises(OverBudget, match="builds too much"):
            budget.spend(1)
