import pytest

from shortlist.model.chat.budget import Budget, OverBudget
from shortlist.model.chat.environment import ChatEnvironment, spending
from shortlist.model.chat.template import ChatTemplate


def test_nothing_is_computed_while_a_template_is_compiled():
    """There is no budget yet, so that even this must wait until it is rendered."""
    ChatTemplate(
        "{{ 'x' * 9 }}{{ 'x'|center(999999999) }}{{ 'x'.center(999999999) }}{{ [1] * 9 }}", "MODEL", {}
    )


def test_the_items_of_a_recursive_loop_are_steps():
    template = ChatEnvironment().from_string(
        "{% for a in [1] recursive %}{{ loop([2] * 50) if a == 1 }}{% endfor %}"
    )
    budget = Budget({})
    with spending(budget):
        assert template.render() == ""
    budget.steps_left = 40
    with spending(budget), pytest.raises(OverBudget, match="takes too many steps"):
        template.render()


def test_a_budget_is_for_its_block():
    outer, inner = Budget({}), Budget({})
    template = ChatEnvironment().from_string("{% for a in [1, 2] %}{% endfor %}")
    with spending(outer):
        with spending(inner):
            template.render()
        assert inner.steps_left == outer.steps_left - 2
        template.render()
    assert inner.steps_left == outer.steps_left
