# ruff: noqa: E501 (a template stands on one line)
import contextlib
import time

import pytest
from model.tokenizer.vocabularies import CHATML

from shortlist.errors import CheckpointError, UsageError
from shortlist.model.chat.template import ChatTemplate

MESSAGES = [{"role": "system", "content": " Be nice.\n"}, {"role": "user", "content": "a < b & 'ü'"}]
VARIABLES = {"bos_token": "<s>", "eos_token": "</s>"}

TEMPLATES = {
    "chatml": CHATML,
    "trimming": "{{ bos_token }}\n{% for m in messages %}\n  {% if m.content is string %}\n{{ m.content | trim }}{{ eos_token }}\n"
    "  {% endif %}\n{% endfor %}\n",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ ns.n ~ m.role }}{% endfor %}",
    "controls": "{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{{ loop.index }}{{ m.role }}{% endfor %}",
    "json": "{{ messages | tojson }}{{ messages[0] | tojson(indent=2) }}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "macro": "{% macro turn(m) %}[{{ m.role | upper }}]{% endmacro %}{% for m in messages[::-1] %}{{ turn(m) }}{% endfor %}",
    "block": "{% set text %}{{ messages[1].content }}{% endset %}{{ text * 2 }}{{ '=' * 3 }}{{ [1] * 2 }}{{ text | length }}",
    "recursive": "{% for m in [1, [2, [3]]] recursive %}{{ loop(m) if m is iterable else m }}{% endfor %}",
    "tools": "{% if tools %}tools{% else %}none{% endif %}{{ documents is none }}{{ unk_token is defined }}",
    "dict": "{{ dict(a=1).a }}{{ messages[1].content.split(' ')[0] }}{{ 'x' in messages[0] }}{{ 7 // 2 * 3 % 5 }}",
}


def render(source: str, messages=MESSAGES, **options) -> str:
    return ChatTemplate(source, "MODEL", VARIABLES).render(messages, **options)


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_renders_as_transformers_does(template, add_generation_prompt):
    chat_template_utils = pytest.importorskip("transformers.utils.chat_template_utils")
    expected, _ = chat_template_utils.render_jinja_template(
        [MESSAGES], chat_template=template, add_generation_prompt=add_generation_prompt, **VARIABLES
    )
    assert render(template, add_generation_prompt=add_generation_prompt) == expected[0]


def test_the_date_can_be_asked_for():
    assert render("{{ strftime_now('%Y') }}") == time.strftime("%Y")


def test_a_template_may_refuse_messages():
    with pytest.raises(UsageError, match=r"^the chat template refuses these messages: roles must alternate$"):
        render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a\n{% if %}", "is broken in line 2: "),
        ("{{ 'a' | no_such_filter }}", "is broken in line 1: No filter named 'no_such_filter'"),
        ("x" * 300_000, "has 300000 characters, more than the 262144 that are read"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "is nested too deeply to be compiled"),
        ("{{ '\ud800' }}", "is not valid text: it holds half of a surrogate pair"),
    ],
)
def test_a_broken_template_is_named(source, message):
    with pytest.raises(CheckpointError, match=f"the chat template of MODEL {message}"):
        render(source)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("{{ messages[0].content.nothing.there }}", "UndefinedError: '.*' has no attribute 'nothing'"),
        ("{{ 1 / 0 }}", "ZeroDivisionError: division by zero"),
        ("{% include 'x' %}", "TypeError: no loader for this environment specified"),
        (
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "RecursionError: maximum recursion depth exceeded",
        ),
        ("{{ range(1000000000) | list }}", "OverflowError: Range too big"),
    ],
)
def test_a_template_that_fails_says_how(source, error):
    with pytest.raises(UsageError, match=f"^the chat template cannot write these messages: {error}"):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception.__globals__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ strftime_now.__code__ }}",
        "{% set n = namespace() %}{% set n.__class__ = 1 %}",
        "{{ namespace(_x=1) }}",
        "{{ cycler.__init__ }}",
        "{{ '{0.__class__}'.format(1) }}",
    ],
)
def test_the_sandbox_holds(source):
    # What is out of bounds is undefined: empty when it is written, an error when it is used.
    with contextlib.suppress(UsageError):
        assert render(source) == ""


@pytest.mark.parametrize(
    "source",
    [
        "{% set r = range(99999) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}",
        "{% set s = messages|string %}{% for a in s %}{% for b in s %}{% for c in s %}{% for d in s %}{% endfor %}{% endfor %}{% endfor %}{% endfor %}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(40) }}",
        "{% for a in range(99999) %}{{ 'a long piece of text ' ~ 'a long piece of text ' ~ messages ~ messages }}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set t %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = t %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s.replace('x', 'xx') %}{% endfor %}",
        "{{ 'x' * 1000000000 }}",
        "{{ '%999999999d' % 1 }}",
        "{{ 9 ** 999999999 }}",
        "{{ [1] * 1000000000 }}",
        "{{ 'x' | center(1000000000) }}",
        "{{ 1000000000 * [1] }}",
        "{{ 'x'.ljust(1000000000) }}",
        "{{ '%999999999d' | format(1) }}",
    ],
)
def test_runaway_templates_are_stopped(source):
    start = time.process_time()
    with pytest.raises(CheckpointError, match="the chat template of MODEL"):
        render(source)
    assert time.process_time() - start < 30  # some 2 s on an idle machine
