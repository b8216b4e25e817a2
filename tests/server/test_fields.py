"""The lists hold every field of OpenAI's client, the page prints them, and they mean what they say."""

from pathlib import Path

import openai.types.chat as chat_types
import pytest
from openai.types import completion_create_params, embedding_create_params, shared_params
from openai.types.chat import completion_create_params as chat_params
from openai.types.shared_params.response_format_json_schema import JSONSchema

from shortlist.server.errors import ApiError
from shortlist.server.fields import Lists, Refused, same
from shortlist.server.fields_page import OBJECTS, tables
from shortlist.server.formats import ResponseFormat, Schema
from shortlist.server.messages import ROLES, Called, Message, Part, ToolCall
from shortlist.server.schemas import ChatBody, CompletionBody, EmbeddingBody, StreamOptions
from shortlist.server.tools import Function, NamedChoice, Tool

PAGE = Path(__file__).parents[2] / "docs" / "requests.md"

MESSAGES = [getattr(chat_types, f"ChatCompletion{role.title()}MessageParam") for role in ROLES]

THEIRS = [
    (ChatBody, chat_params.CompletionCreateParamsNonStreaming),
    (ChatBody, chat_params.CompletionCreateParamsStreaming),
    (CompletionBody, completion_create_params.CompletionCreateParamsNonStreaming),
    (CompletionBody, completion_create_params.CompletionCreateParamsStreaming),
    (EmbeddingBody, embedding_create_params.EmbeddingCreateParams),
    *((Message, each) for each in MESSAGES),
    (Part, chat_types.ChatCompletionContentPartTextParam),
    (Part, chat_types.ChatCompletionContentPartRefusalParam),
    (ToolCall, chat_types.ChatCompletionMessageFunctionToolCallParam),
    (ToolCall, chat_types.ChatCompletionMessageCustomToolCallParam),
    (Called, chat_types.chat_completion_message_function_tool_call_param.Function),
    (Tool, chat_types.ChatCompletionFunctionToolParam),
    (Tool, chat_types.ChatCompletionCustomToolParam),
    (Function, shared_params.FunctionDefinition),
    (NamedChoice, chat_types.ChatCompletionNamedToolChoiceParam),
    (NamedChoice, chat_types.ChatCompletionNamedToolChoiceCustomParam),
    (NamedChoice, chat_types.ChatCompletionAllowedToolChoiceParam),
    (ResponseFormat, shared_params.ResponseFormatText),
    (ResponseFormat, shared_params.ResponseFormatJSONObject),
    (ResponseFormat, shared_params.ResponseFormatJSONSchema),
    (Schema, JSONSchema),
    (StreamOptions, chat_types.ChatCompletionStreamOptionsParam),
]


def fields_of(theirs):
    """The names of a typed dictionary, inherited ones included."""
    return set(theirs.__required_keys__ | theirs.__optional_keys__)


@pytest.mark.parametrize(("ours", "theirs"), THEIRS, ids=lambda kind: kind.__name__)
def test_every_field_of_openais_client_is_in_a_list(ours, theirs):
    assert fields_of(theirs)
    missing = fields_of(theirs) - ours.honoured() - set(ours.lists.harmless) - set(ours.lists.refused)
    assert not missing, f"put these fields into a list of field_lists, or honour them: {sorted(missing)}"


def test_every_kind_of_message_of_openais_client_is_known_or_refused():
    kinds = {each.__name__ for each in chat_types.ChatCompletionMessageParam.__args__}
    assert kinds == {each.__name__ for each in MESSAGES} | {"ChatCompletionFunctionMessageParam"}


def test_the_page_prints_the_lists():
    page = PAGE.read_text()
    missing = [table for table in tables() if table + "\n" not in page]
    assert not missing, "write the output of `python -m shortlist.server.fields_page` at the page's end"
    assert page.count("| --- | --- | --- |") == len(OBJECTS)


@pytest.mark.parametrize("kind", OBJECTS.values(), ids=lambda kind: kind.__name__)
def test_no_field_is_in_two_lists(kind):
    lists = [kind.honoured(), set(kind.lists.harmless), set(kind.lists.refused)]
    assert sum(map(len, lists)) == len(set.union(*lists))


REFUSED = [(kind, name) for kind in OBJECTS.values() for name in kind.lists.refused]


@pytest.mark.parametrize(("kind", "name"), REFUSED, ids=lambda each: getattr(each, "__name__", each))
def test_what_asks_for_nothing_passes_and_all_else_is_refused(kind, name):
    refused = kind.lists.refused[name]
    for value in (None, *refused.passes):
        assert kind.lists.honoured({name: value}, (), "") == {}
    for value in ("something", 5, True, [1], {"a": 1}):
        if not any(same(value, each) for each in refused.passes):
            with pytest.raises(ApiError) as raised:
                kind.lists.honoured({name: value}, (), "")
            assert (raised.value.status, raised.value.param) == (400, name)
            assert raised.value.code == "unsupported_parameter"
            assert raised.value.message == f"{name} {refused.reason}"


LISTS = Lists({"user": "nobody asks"}, {"magic": Refused("is not supported", (1, False))})


def test_fields_that_are_honoured_are_kept_and_harmless_ones_dropped():
    assert LISTS.honoured({"a": 1, "user": "me", "b": None}, {"a", "b"}, "") == {"a": 1, "b": None}


@pytest.mark.parametrize(
    ("value", "passes"), [(None, 1), (1, 1), (1.0, 1), (False, 1), (True, 0), (0, 0), ("", 0), ([], 0)]
)
def test_a_flag_is_not_a_number(value, passes):
    if passes:
        assert LISTS.honoured({"magic": value}, (), "") == {}
    else:
        with pytest.raises(ApiError, match="magic is not supported"):
            LISTS.honoured({"magic": value}, (), "")


@pytest.mark.parametrize(
    ("name", "near"), [("temprature", "temperature"), ("MaxTokens", "max_tokens"), ("zzz", "")]
)
def test_an_unknown_field_is_refused_by_the_nearest_name(name, near):
    with pytest.raises(ApiError) as raised:
        LISTS.honoured({name: None}, {"temperature", "max_tokens"}, "the thing")
    assert raised.value.status == 400
    assert raised.value.code == "unknown_parameter"
    assert raised.value.param == name
    assert raised.value.message.startswith(
        f"the thing: {name} is not a parameter that is known here: did you mean"
    )
    assert near in raised.value.message


def test_long_names_are_cut_short():
    with pytest.raises(ApiError) as raised:
        LISTS.honoured({"x" * 5000: 1}, {"temperature"}, "")
    assert len(raised.value.message) < 200
    assert len(raised.value.param) == 100
