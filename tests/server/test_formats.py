import re

import pytest
from pydantic import ValidationError

from shortlist.engine.constraints import JsonSchema, Regex
from shortlist.server.errors import ApiError
from shortlist.server.schemas import CompletionBody

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def constraint(**fields):
    return CompletionBody.model_validate({"prompt": "x", **fields}).constraint()


def refused(**fields):
    with pytest.raises((ApiError, ValidationError)) as raised:
        constraint(**fields)
    error = raised.value
    if not isinstance(error, ApiError):
        return error.errors()[0]["msg"]
    assert error.status == 400
    return error.message


def wrapped(schema, **more):
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, **more}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"response_format": None, "guided_json": None, "structured_outputs": None}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, JsonSchema({"type": "object"})),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, JsonSchema(SCHEMA)),
        ({"response_format": {"type": "json_schema", "schema": SCHEMA}}, JsonSchema(SCHEMA)),
        ({"response_format": wrapped(SCHEMA, strict=True, description="d")}, JsonSchema(SCHEMA)),
        ({"response_format": wrapped({})}, JsonSchema({})),
        ({"response_format": {"type": "regex", "regex": "a+"}}, Regex("a+")),
        ({"guided_json": SCHEMA}, JsonSchema(SCHEMA)),
        ({"guided_json": '{"type": "object"}'}, JsonSchema({"type": "object"})),
        ({"guided_json": {}}, JsonSchema({})),
        ({"guided_regex": "a+"}, Regex("a+")),
        ({"json_schema": SCHEMA}, JsonSchema(SCHEMA)),
        ({"structured_outputs": {"json": SCHEMA}}, JsonSchema(SCHEMA)),
        ({"structured_outputs": {"regex": "a+", "json": None}}, Regex("a+")),
        ({"structured_outputs": {"json_object": True}}, JsonSchema({"type": "object"})),
        ({"structured_outputs": {"json_object": False}}, None),
        ({"structured_outputs": {}}, None),
    ],
)
def test_each_way_to_ask_for_a_form(fields, expected):
    assert constraint(**fields) == expected


@pytest.mark.parametrize(
    "fields",
    [{"guided_choice": ["a.b", "c|d", "-"]}, {"structured_outputs": {"choice": ["a.b", "c|d", "-"]}}],
)
def test_a_choice_is_one_of_the_texts(fields):
    pattern = constraint(**fields).pattern
    assert all(re.fullmatch(pattern, text) for text in ("a.b", "c|d", "-"))
    assert not any(re.fullmatch(pattern, text) for text in ("axb", "c", "d", "", "a.bc|d"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"response_format": {"type": "json_schema"}}, "needs a field json_schema"),
        ({"response_format": {"type": "regex"}}, "needs a field regex"),
        ({"response_format": {"type": "text", "regex": "a"}}, "type text has a regex"),
        ({"response_format": {"type": "json_object", "regex": "a"}}, "type json_object has a regex"),
        ({"response_format": {"type": "text", "schema": {}}}, "type text has a schema"),
        ({"response_format": {"type": "regex", "regex": "a", "schema": {}}}, "type regex has a schema"),
        ({"response_format": {**wrapped({}), "schema": {}}}, "json_schema and schema"),
        ({"response_format": {"type": "poem"}}, "should be 'text'"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}, "Field required"),
        ({"response_format": wrapped({}, strikt=True)}, "did you mean schema?"),
        ({"guided_json": "["}, "no JSON object"),
        ({"guided_json": "[1]"}, "no JSON object"),
        ({"guided_json": "[" * 100_000}, "no JSON object"),
        ({"guided_choice": []}, "at least 1"),
        ({"structured_outputs": {"choice": []}}, "at least 1"),
        ({"structured_outputs": {"grammar": "x"}}, "grammar is not supported"),
        ({"guided_json": {}, "guided_regex": "a"}, "one thing only"),
        ({"guided_json": {}, "response_format": {"type": "json_object"}}, "one thing only"),
        ({"json_schema": {}, "structured_outputs": {"regex": "a"}}, "one thing only"),
        ({"structured_outputs": {"json": {}, "json_object": True}}, "one thing only"),
    ],
)
def test_forms_that_are_refused(fields, message):
    assert message in refused(**fields)
