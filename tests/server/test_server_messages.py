import pytest
from pydantic import ValidationError

from shortlist.server.errors import ApiError
from shortlist.server.messages import ROLES, Message

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def plain(**message):
    return Message.model_validate(message).plain()


def refused(**message):
    with pytest.raises((ApiError, ValidationError)) as raised:
        plain(**message)
    error = raised.value
    if not isinstance(error, ApiError):
        return error.errors()[0]["msg"]
    assert error.status == 400
    return error.message


@pytest.mark.parametrize("role", ROLES)
def test_text_reaches_the_template_as_it_is(role):
    assert plain(role=role, content=" a\n") == {"role": role, "content": " a\n"}


def test_parts_reach_the_template():
    parts = [
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
        {"type": "refusal", "refusal": "no"},
    ]
    kept = [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "no"}]
    assert plain(role="user", content=parts)["content"] == kept


@pytest.mark.parametrize("message", [{"content": None}, {}, {"content": None, "tool_calls": []}])
def test_an_assistant_may_say_nothing(message):
    assert plain(role="assistant", **message)["content"] == ""


def test_a_refusal_is_what_an_assistant_said():
    assert plain(role="assistant", content=None, refusal="I will not")["content"] == "I will not"
    assert plain(role="assistant", content="yes", refusal=None)["content"] == "yes"


@pytest.mark.parametrize("role", [role for role in ROLES if role != "assistant"])
def test_others_must_say_something(role):
    assert f"role {role} has no content" in refused(role=role, content=None)
    assert f"role {role} has no content" in refused(role=role)


def test_calls_and_answers_of_tools_reach_the_template():
    assert plain(role="assistant", content=None, tool_calls=[CALL])["tool_calls"] == [CALL]
    assert plain(role="tool", tool_call_id="c", content="42") == {
        "role": "tool",
        "tool_call_id": "c",
        "content": "42",
    }


@pytest.mark.parametrize(
    ("arguments", "text"),
    [({"a": 1}, '{"a": 1}'), ({}, "{}"), (None, "{}"), ("", ""), ("not JSON", "not JSON")],
)
def test_arguments_are_a_text(arguments, text):
    call = {"function": {"name": "f", "arguments": arguments}}
    (got,) = plain(role="assistant", tool_calls=[call])["tool_calls"]
    assert got == {"id": "", "type": "function", "function": {"name": "f", "arguments": text}}


def test_other_fields_that_templates_read_are_kept():
    said = {"role": "assistant", "content": "a", "name": "Ann", "reasoning_content": "hm"}
    assert plain(**said) == said
    assert plain(role="assistant", content="a", reasoning="hm")["reasoning"] == "hm"
    assert plain(role="assistant", content="a", thinking="hm")["thinking"] == "hm"


def test_what_openais_client_adds_to_its_own_answers_passes():
    answer = {"role": "assistant", "content": "a", "refusal": None, "annotations": [], "audio": None}
    assert plain(**answer, function_call=None, tool_calls=None) == {"role": "assistant", "content": "a"}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"role": "banana", "content": "a"}, "'banana' is not a role"),
        ({"role": "function", "content": "a"}, "use tool"),
        ({"role": 5, "content": "a"}, "5 is not a role"),
        ({"content": "a"}, "Field required"),
        ({"role": "user", "content": 5}, "a text or a list of parts"),
        ({"role": "user", "content": {}}, "a text or a list of parts"),
        ({"role": "user", "content": ["a"]}, "[0] is not a part"),
        ({"role": "user", "content": [{"text": "a"}]}, "[0] is not a part"),
        ({"role": "user", "content": [{"type": "text"}]}, "[0] of type text needs a field text"),
        ({"role": "user", "content": [{"type": "refusal", "text": "a"}]}, "needs a field refusal"),
        ({"role": "user", "content": [{"type": "text", "text": "a", "txt": 1}]}, "txt is not a parameter"),
        (
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}],
            },
            "[1] is of type image_url, but this model reads text only",
        ),
        (
            {"role": "user", "content": [{"type": "input_audio"}]},
            "input_audio, but this model reads text only",
        ),
        (
            {"role": "user", "content": "a", "tool_calls": [CALL]},
            "tool_calls, which belongs to role assistant",
        ),
        ({"role": "user", "content": "a", "tool_call_id": "c"}, "tool_call_id, which belongs to role tool"),
        ({"role": "tool", "content": "a", "refusal": "b"}, "refusal, which belongs to role assistant"),
        ({"role": "assistant", "function_call": {"name": "f"}}, "function_call is not supported"),
        ({"role": "assistant", "tool_calls": [{"type": "custom", "custom": {}}]}, "custom is not supported"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": ""}}]}, "at least 1"),
        ({"role": "user", "content": "a", "contents": "b"}, "did you mean content?"),
    ],
)
def test_messages_that_are_refused(message, reason):
    assert reason in refused(**message)
