# ruff: noqa: E501 (a template stands on one line)
import re
from enum import Enum
from typing import Any

import pytest

from shortlist.errors import UsageError
from shortlist.model.chat.template import ChatTemplate

DUMP = "{% for m in messages %}{{ m|tojson }}{% endfor %}"
PARTS = "{% for m in messages %}{% for p in m.content %}[{{ p.type }}:{{ p.text }}]{% endfor %}{% endfor %}"


def render(source: str, *messages: Any, **options: Any) -> str:
    options.setdefault("add_generation_prompt", False)
    return str.__str__(ChatTemplate(source, "MODEL", {}).render(list(messages), **options))


def test_fields_that_are_null_are_left_out():
    message = {"role": "assistant", "content": None, "name": "a", "refusal": None, "tool_calls": None}
    assert render(DUMP, message) == '{"role": "assistant", "name": "a"}'


def test_other_fields_reach_the_template():
    message = {
        "role": "tool",
        "content": "sunny",
        "tool_call_id": "c1",
        "name": "f",
        "x": [1, 1.5, True, {"a": []}],
    }
    assert render("{{ messages[0] }}", message) == str(message)


@pytest.mark.parametrize("field", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_has_all_its_names(field):
    template = "{{ messages[0].reasoning_content }}|{{ messages[0].thinking }}|{{ messages[0].reasoning }}"
    expected = "why|why|" + ("why" if field == "reasoning" else "")
    assert render(template, {"role": "assistant", "content": "", field: "why"}) == expected


def test_of_several_reasonings_the_standard_one_counts():
    message = {
        "role": "assistant",
        "content": "",
        "reasoning_content": "a",
        "thinking": "b",
        "reasoning": "c",
    }
    assert render("{{ messages[0].reasoning_content }}{{ messages[0].thinking }}", message) == "ab"


class TestRoles:
    @pytest.mark.parametrize("role", ["system", "user", "assistant", "tool", "function"])
    def test_known_ones(self, role):
        assert render("{{ messages[0].role }}", {"role": role, "content": ""}) == role

    @pytest.mark.parametrize(
        ("template", "role"),
        [
            ("{{ messages[0].role }}", "system"),
            ("{{ messages[0].role }}{% if messages[0].role == 'user' %}{% endif %}", "system"),
            ("{{ messages[0].role }}{% if messages[0]['role'] == 'developer' %}{% endif %}", "developer"),
            ("{% for m in messages %}{{ m.role }}{% if m.role in ['system', 'developer'] %}{% endif %}{% endfor %}", "developer"),
            ("{% set r = messages[0].role %}{{ r }}{% if 'developer' == r %}{% endif %}", "developer"),
            ("{{ messages[0].role }}{{ messages|selectattr('role', 'equalto', 'developer')|list|length }}", "developer1"),
            ("{{ messages[0].role }}{% if messages[0].role is eq('developer') %}{% endif %}", "developer"),
            ("{{ messages[0].role }}{% if messages[0].content == 'developer' %}{% endif %}", "system"),
        ],
    )  # fmt: skip
    def test_developer_is_system_where_the_template_does_not_know_it(self, template, role):
        assert render(template, {"role": "developer", "content": ""}) == role

    def test_those_of_the_template(self):
        template = (
            "{% for m in messages %}{% if m.role == 'ipython' %}[{{ m.content }}]{% endif %}{% endfor %}"
        )
        assert render(template, {"role": "ipython", "content": "a"}) == "[a]"
        known = "system, developer, user, assistant, tool, function, ipython"
        with pytest.raises(
            UsageError, match=f"message 1 of the chat has the role 'banana': use one of {known}$"
        ):
            render(template, {"role": "banana", "content": "a"})


class TestContent:
    PART = {"type": "text", "text": "a"}  # noqa: RUF012

    def test_text_becomes_a_part_where_the_template_loops_over_parts(self):
        assert render(PARTS, {"role": "user", "content": "a"}) == "[text:a]"

    def test_parts_stay_parts_there(self):
        assert render(PARTS, {"role": "user", "content": [self.PART, "b"]}) == "[text:a][text:b]"

    def test_parts_are_lines_elsewhere(self):
        message = {"role": "user", "content": [self.PART, "b", {"type": "refusal", "refusal": "c"}]}
        assert render("{{ messages[0].content }}", message) == "a\nb\nc"

    @pytest.mark.parametrize("kind", ["text", "input_text", "output_text"])
    def test_names_that_apis_have_for_text(self, kind):
        assert render(PARTS, {"role": "user", "content": [{"type": kind, "text": "a"}]}) == "[text:a]"

    @pytest.mark.parametrize(
        "template",
        [
            "{% if messages[0].content is string %}{{ messages[0].content }}{% else %}"
            "{% for p in messages[0].content %}{{ p.text }}{% endfor %}{% endif %}",
            "{% macro write(content) %}{% if content is string %}{{ content }}{% else %}"
            "{% for p in content %}{{ p['text'] }}{% endfor %}{% endif %}{% endmacro %}{{ write(messages[0].content) }}",
        ],
    )
    def test_a_template_that_handles_both_gets_what_is_given(self, template):
        assert render(template, {"role": "user", "content": "a"}) == "a"
        assert render(template, {"role": "user", "content": [self.PART, self.PART]}) == "aa"

    def test_null_where_the_template_needs_it(self):
        template = (
            "{% for m in messages %}{% if m['content'] is none %}{{ m.tool_calls|length }} calls"
            "{% else %}{{ '[' + m['content'] + ']' }}{% endif %}{% endfor %}"
        )
        call = {"function": {"name": "f", "arguments": "{}"}}
        messages = [{"role": "assistant", "tool_calls": [call]}, {"role": "user", "content": "a"}]
        assert render(template, *messages) == "1 calls[a]"

    def test_nothing_where_the_template_needs_text(self):
        assert render("{{ '[' + messages[0].content + ']' }}", {"role": "assistant", "content": None}) == "[]"
        assert render("{{ messages[0].content is defined }}", {"role": "assistant"}) == "False"

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (5, "the content of message 1 of the chat must be text or a list of parts of text"),
            ({"text": "a"}, "the content of message 1 of the chat must be text or a list"),
            (
                [PART, {"type": "image_url"}],
                "part 2 of message 1 of the chat is of the type 'image_url': only parts",
            ),
            ([{"text": "a"}], "part 1 of message 1 of the chat is of the type None"),
            ([{"type": ["text"]}], "part 1 of message 1 of the chat is of the type ['text']"),
            ([5], "part 1 of message 1 of the chat is of the type None"),
            ([{"type": "text"}], "part 1 of message 1 of the chat has no text: give it as text"),
            ([{"type": "refusal", "text": "a"}], "part 1 of message 1 of the chat has no refusal"),
        ],
    )
    def test_what_is_not_text_is_refused(self, content, message):
        with pytest.raises(UsageError, match=re.escape(message)):
            render(PARTS, {"role": "user", "content": content})


class TestToolCalls:
    ITEMS = (
        "{% for c in messages[0].tool_calls %}{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }}"
        "{% endfor %}{% endfor %}"
    )

    def message(self, arguments: Any) -> dict[str, Any]:
        call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}
        return {"role": "assistant", "tool_calls": [call]}

    @pytest.mark.parametrize("arguments", ['{"city": "Paris"}', {"city": "Paris"}])
    def test_arguments_are_an_object(self, arguments):
        assert render(self.ITEMS, self.message(arguments)) == "city=Paris"
        tojson = "{{ messages[0].tool_calls[0].function.arguments|tojson }}"
        assert render(tojson, self.message(arguments)) == '{"city": "Paris"}'

    @pytest.mark.parametrize(
        "template",
        [
            "{{ messages[0].tool_calls[0].function.arguments }}",
            "{{ '' + messages[0].tool_calls[0]['function']['arguments'] }}",
            "{{ '' ~ messages[0].tool_calls[0].function.arguments }}",
            "{% for c in messages[0].tool_calls %}{% set a = c.function.arguments %}{{ a }}{% endfor %}",
        ],
    )
    def test_but_text_where_the_template_writes_them_as_they_are(self, template):
        assert render(template, self.message('{"city":  "Paris"}')) == '{"city":  "Paris"}'

    def test_a_template_that_asks_gets_an_object(self):
        template = "{% set a = messages[0].tool_calls[0].function.arguments %}{% if a is string %}{{ a }}{% else %}object{% endif %}"
        assert render(template, self.message("{}")) == "object"

    @pytest.mark.parametrize("arguments", ["", "  ", "{}"])
    def test_no_arguments(self, arguments):
        template = "{{ messages[0].tool_calls[0].function.arguments|tojson }}"
        assert render(template, self.message(arguments)) == "{}"

    @pytest.mark.parametrize("arguments", ["{", "[1]", "5", "null", "[" * 100_000])
    def test_arguments_that_are_none_are_refused(self, arguments):
        with pytest.raises(
            UsageError, match="the arguments of tool call 1 of message 1 of the chat must be a JSON"
        ):
            render(self.ITEMS, self.message(arguments))

    @pytest.mark.parametrize("calls", ["f", {"function": {}}, ["f"]])
    def test_calls_that_are_none_are_refused(self, calls):
        with pytest.raises(
            UsageError, match="the tool_calls of message 1 of the chat must be a list of calls"
        ):
            render(self.ITEMS, {"role": "assistant", "tool_calls": calls})

    def test_a_function_that_is_none_is_refused(self):
        with pytest.raises(
            UsageError, match="the function of tool call 1 of message 1 of the chat must have"
        ):
            render(self.ITEMS, {"role": "assistant", "tool_calls": [{"function": "f"}]})


class TestPlainData:
    def test_subclasses_become_plain(self):
        class Loud(str):
            def __str__(self):
                return "LOUD"

        class Level(int, Enum):
            HIGH = 2

        message = {"role": "user", "content": Loud("a"), "level": Level.HIGH, "x": (1, 2)}
        assert (
            render("{{ messages[0].content }}{{ messages[0].level }}{{ messages[0].x }}", message)
            == "a2[1, 2]"
        )

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (object(), "message 1 of the chat holds a object: use the types of JSON"),
            (b"a", "message 1 of the chat holds a bytes"),
            (bytearray(b"a"), "message 1 of the chat holds a bytearray"),
            ({1: 2}, "message 1 of the chat has a key that is not text"),
        ],
    )
    def test_other_objects_are_refused(self, value, message):
        with pytest.raises(UsageError, match=message):
            render(DUMP, {"role": "user", "content": "", "x": value})

    def test_deep_nesting_is_refused(self):
        deep: Any = []
        for _ in range(100_000):
            deep = [deep]
        with pytest.raises(UsageError, match="message 1 of the chat is nested too deeply"):
            render(DUMP, {"role": "user", "content": "", "x": deep})


class TestVariables:
    TEMPLATE = (
        "{{ tools|length if tools }}{{ documents[0].title if documents }}{{ enable_thinking }}{{ bos_token }}"
    )

    def test_they_reach_the_template(self):
        variables = {"enable_thinking": False, "documents": [{"title": "T"}], "bos_token": "<b>"}
        assert render(self.TEMPLATE, {"role": "user"}, tools=[{}], template_kwargs=variables) == "1TFalse<b>"
        assert render(self.TEMPLATE, {"role": "user"}, tools=[], template_kwargs={}) == ""

    def test_tools_and_documents_are_none_without_any(self):
        assert render("{{ tools is none }}{{ documents is none }}", {"role": "user"}) == "TrueTrue"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"template_kwargs": {"x": 1}},
                "does not read 'x'; the variables that it reads: bos_token, documents, ena",
            ),
            ({"template_kwargs": {"tools": []}}, "template_kwargs cannot hold tools: give it as a parameter"),
            ({"template_kwargs": {"messages": []}}, "template_kwargs cannot hold messages"),
            ({"template_kwargs": {"add_generation_prompt": True}}, "cannot hold add_generation_prompt"),
            ({"template_kwargs": {"continue_final_message": True}}, "cannot hold continue_final_message"),
            ({"template_kwargs": [1]}, "template_kwargs must map names of variables to values"),
            ({"template_kwargs": {"documents": "T"}}, "documents must be a list of objects"),
            ({"template_kwargs": {"documents": ["T"]}}, "documents must be a list of objects"),
            ({"template_kwargs": {"enable_thinking": object()}}, "template_kwargs holds a object"),
            ({"tools": "f"}, "tools must be a list of JSON schemas, each an object"),
            ({"tools": [1]}, "tools must be a list of JSON schemas"),
            ({"tools": [{"a": object()}]}, "tools holds a object"),
        ],
    )
    def test_what_the_template_does_not_take_is_refused(self, options, message):
        with pytest.raises(UsageError, match=message):
            render(self.TEMPLATE, {"role": "user"}, **options)

    def test_a_template_that_reads_none(self):
        with pytest.raises(UsageError, match="the variables that it reads: none but the messages"):
            render("{{ messages }}", {"role": "user"}, template_kwargs={"x": 1})


class TestContinuing:
    CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>\n{% endfor %}"
    TRIMMED = CHAT.replace("content", "content|trim")
    MESSAGES = ({"role": "user", "content": "a"}, {"role": "assistant", "content": " b "})

    @pytest.mark.parametrize(
        ("template", "expected"),
        [(CHAT, "<user>a</>\n<assistant> b "), (TRIMMED, "<user>a</>\n<assistant>b")],
    )
    def test_the_text_ends_with_the_message(self, template, expected):
        assert render(template, *self.MESSAGES, continue_final_message=True) == expected

    def test_the_last_part(self):
        message = {"role": "assistant", "content": ["a", "b"]}
        assert render(PARTS + "</>", message, continue_final_message=True) == "[text:a][text:b"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"add_generation_prompt": True}, "continue_final_message needs add_generation_prompt=False"),
            ({"messages": [{"role": "assistant"}]}, "needs a last message with content"),
            (
                {"source": PARTS, "messages": [{"role": "assistant", "content": []}]},
                "needs a last message with content",
            ),
            (
                {"source": "x{{ messages[0].role }}"},
                "does not write the last message, so that it cannot be continued",
            ),
        ],
    )
    def test_what_cannot_be_continued(self, options, message):
        options = {"source": self.CHAT, "messages": self.MESSAGES, **options}
        with pytest.raises(UsageError, match=message):
            render(options.pop("source"), *options.pop("messages"), continue_final_message=True, **options)

    @pytest.mark.parametrize("content", [" b ", "", " CONTINUE", [{"type": "text", "text": "b "}]])
    @pytest.mark.parametrize("template", [CHAT, TRIMMED, PARTS, "{{ messages[1].content|length }}{{ messages[1].content }}"])  # fmt: skip
    def test_equals_transformers(self, template, content):
        utils = pytest.importorskip("transformers.utils.chat_template_utils")
        if isinstance(content, list) != (template is PARTS):
            return
        messages = [{"role": "user", "content": type(content)()}, {"role": "assistant", "content": content}]
        expected = utils.render_jinja_template(
            [messages], chat_template=template, continue_final_message=True
        )
        assert render(template, *messages, continue_final_message=True) == expected[0][0]
