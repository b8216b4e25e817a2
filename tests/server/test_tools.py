"""Offers, the grammar of calls, and what answers become."""

import json

import pytest
from pydantic import TypeAdapter, ValidationError

from shortlist.server.errors import ApiError
from shortlist.server.tools import CallsInText, ForcedCall, Offer, Text, Tool, ToolChoice, joined

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def tool(name="f", **function):
    return Tool.model_validate({"type": "function", "function": {"name": name, **function}})


def choice(given):
    return TypeAdapter(ToolChoice).validate_python(given)


def offer(*names, choice_="auto", several=None):
    return Offer.of([tool(name) for name in names], choice(choice_), several)


NAMED = {"type": "function", "function": {"name": "g"}}


@pytest.mark.parametrize(
    ("given", "shown", "must"),
    [
        (None, ["f", "g"], []),
        ("auto", ["f", "g"], []),
        ("none", [], []),
        ("required", ["f", "g"], ["f", "g"]),
        (NAMED, ["f", "g"], ["g"]),
    ],
)
def test_what_a_choice_of_tools_means(given, shown, must):
    made = Offer.of([tool("f"), tool("g")], None if given is None else choice(given), None)
    assert [each.function.name for each in made.tools] == shown
    assert list(made.must) == must


@pytest.mark.parametrize("given", [None, "auto", "none"])
@pytest.mark.parametrize("tools", [None, []])
def test_no_tools(given, tools):
    made = Offer.of(tools, given, None)
    assert (list(made.tools), made.constraint()) == ([], None)
    assert isinstance(made.writer(), Text)


@pytest.mark.parametrize(("given", "several"), [(None, True), (True, True), (False, False)])
@pytest.mark.parametrize("choice_", ["auto", "required", NAMED])
def test_several_calls_are_allowed_unless_they_are_not(given, several, choice_):
    assert offer("g", choice_=choice_, several=given).several is several


@pytest.mark.parametrize(
    ("make", "message", "param"),
    [
        (lambda: offer("f", "f"), "the same name", "tools"),
        (lambda: Offer.of(None, "required", None), "there are no tools", "tool_choice"),
        (lambda: Offer.of([], choice(NAMED), None), "there are no tools", "tool_choice"),
        (lambda: offer("f", choice_=NAMED), "g, which is none of the tools", "tool_choice"),
    ],
)
def test_contradictions(make, message, param):
    with pytest.raises(ApiError, match=message) as raised:
        make()
    assert (raised.value.status, raised.value.param) == (400, param)


def test_a_tool_is_a_function_where_it_does_not_say():
    assert choice({"function": {"name": "g"}}) == choice(NAMED)
    assert Tool.model_validate({"function": {"name": "f"}}) == tool("f")


@pytest.mark.parametrize("given", ["any", "", 5, {"type": "function"}, {"type": "function", "function": {}}])
def test_choices_that_are_none(given):
    with pytest.raises(ValidationError):
        choice(given)


@pytest.mark.parametrize(
    "given", [{"type": "allowed_tools", "allowed_tools": {}}, {"type": "custom", "custom": {"name": "x"}}]
)
def test_choices_that_are_not_supported(given):
    with pytest.raises(ApiError, match="is not supported"):
        choice(given)


@pytest.mark.parametrize("name", ["", "a b", "x" * 129, 'a"b', "ä"])
def test_names_that_no_grammar_should_hold(name):
    with pytest.raises(ValidationError):
        tool(name)


def test_what_the_template_is_given():
    assert tool("f", description="d", parameters=PARAMETERS, strict=True).plain() == {
        "type": "function",
        "function": {"name": "f", "description": "d", "parameters": PARAMETERS},
    }
    empty = {"type": "object", "properties": {}, "additionalProperties": False}
    assert tool("f").plain()["function"] == {"name": "f", "parameters": empty}


def arguments_of(constraint):
    return constraint.schema["properties"]["arguments"]


def test_the_grammar_of_one_call():
    made = Offer.of([tool("f", parameters=PARAMETERS)], "required", None).constraint()
    assert made.schema == {
        "type": "object",
        "properties": {"name": {"const": "f"}, "arguments": {**PARAMETERS, "additionalProperties": False}},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("parameters", "arguments"),
    [
        (None, {"type": "object", "properties": {}, "additionalProperties": False}),
        ({}, {"type": "object"}),
        ({"properties": {}}, {"type": "object", "properties": {}, "additionalProperties": False}),
        (
            {"properties": {"a": {}}},
            {"type": "object", "properties": {"a": {}}, "additionalProperties": False},
        ),
        (
            {"properties": {"a": {}}, "additionalProperties": True},
            {"type": "object", "properties": {"a": {}}, "additionalProperties": True},
        ),
    ],
)
def test_the_grammar_of_arguments(parameters, arguments):
    made = Offer.of([tool("f", parameters=parameters)], "required", None).constraint()
    assert arguments_of(made) == arguments


LINKED = {
    "type": "object",
    "properties": {
        "to": {"$ref": "#/$defs/place"},
        "$ref": {"type": "string"},
        "any": {"items": [{"$ref": "#"}]},
    },
    "$defs": {"place": {"type": "string"}},
    "$id": "#x",
}


def test_references_follow_the_parameters():
    one = Offer.of([tool("f", parameters=LINKED)], "required", None).constraint().schema
    assert one["properties"]["arguments"]["properties"] == {
        "to": {"$ref": "#/properties/arguments/$defs/place"},
        "$ref": {"type": "string"},
        "any": {"items": [{"$ref": "#/properties/arguments"}]},
    }
    assert one["properties"]["arguments"]["$id"] == "#x"
    several = Offer.of([tool("g"), tool("f", parameters=LINKED)], "required", None).constraint().schema
    arguments = several["anyOf"][1]["properties"]["arguments"]
    assert arguments["properties"]["to"] == {"$ref": "#/anyOf/1/properties/arguments/$defs/place"}
    elsewhere = {"properties": {"a": {"$ref": "https://a.example"}}}
    kept = Offer.of([tool("f", parameters=elsewhere)], "required", None).constraint()
    assert arguments_of(kept)["properties"] == elsewhere["properties"]


def test_parameters_that_are_nested_too_deeply_are_refused():
    deep: dict = {}
    for _ in range(5000):
        deep = {"items": deep}
    with pytest.raises(ApiError, match="nested too deeply"):
        Offer.of([tool("f", parameters=deep)], "required", None).constraint()


def test_the_grammar_of_one_call_among_several():
    required = offer("f", "g", choice_="required").constraint().schema
    assert [each["properties"]["name"] for each in required["anyOf"]] == [{"const": "f"}, {"const": "g"}]
    named = offer("f", "g", choice_=NAMED).constraint().schema
    assert named["properties"]["name"] == {"const": "g"}
    assert offer("f").constraint() is None


def pieces(text, size):
    return [text[i : i + size] for i in range(0, len(text), size)]


def written(writer, text, reason="stop", size=1):
    """The message, why it ended, the warnings, and the deltas."""
    deltas = [writer.push(piece) for piece in pieces(text, size)]
    last, reason = writer.end(reason)
    return joined([*deltas, last]), reason, writer.warnings, [*deltas, last]


def calls_of(message):
    return [
        (call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls", ())
    ]


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_text_is_content(size):
    message, reason, warnings, _ = written(Text(), "Hello <tool_call>", "length", size)
    assert message == {"role": "assistant", "content": "Hello <tool_call>", "refusal": None}
    assert (reason, warnings) == ("length", [])


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("arguments", ["{}", '{"city":"Paris"}', '{"a":{"b":{}}}', '{"a":"}"}'])
def test_a_forced_call(size, arguments):
    text = f'{{"name":"f","arguments":{arguments}}}'
    message, reason, warnings, deltas = written(ForcedCall(["f", "g"]), text, size=size)
    assert calls_of(message) == [("f", arguments)]
    assert message["content"] is None
    assert (reason, warnings) == ("tool_calls", [])
    begun = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert [call["index"] for call in begun] == [0] * len(begun)
    assert [("id" in call, "name" in call["function"]) for call in begun] == [(True, True)] + [
        (False, False)
    ] * (len(begun) - 1)
    assert all(call["function"]["arguments"] for call in begun[1:])
    assert begun[0]["type"] == "function"
    assert not any("content" in delta for delta in deltas)


@pytest.mark.parametrize(
    ("text", "names", "calls"),
    [
        ("", ["f", "g"], []),
        ('{"name":"', ["f", "g"], []),
        ('{"name":"f', ["f"], [("f", "")]),
        ('{"name":"f","arguments":', ["f", "g"], [("f", "")]),
        ('{"name":"f","arguments":{"a":{}', ["f", "g"], [("f", '{"a":{}')]),
        ('{"name":"f","arguments":{}', ["f", "g"], [("f", "{}")]),
    ],
)
@pytest.mark.parametrize("reason", ["length", "stop"])
@pytest.mark.parametrize("size", [1, 1000])
def test_a_forced_call_that_is_cut_off_says_so(text, names, calls, reason, size):
    message, ended, warnings, _ = written(ForcedCall(names), text, reason, size)
    assert calls_of(message) == calls
    assert ended == reason
    assert "cut off" in warnings[0]
    assert message["content"] == (None if calls else "")


def test_calls_have_ids_of_their_own():
    text = '{"name":"f","arguments":{}}'
    ids = {written(ForcedCall(["f"]), text)[0]["tool_calls"][0]["id"] for _ in range(50)}
    assert len(ids) == 50
    assert all(each.startswith("call_") for each in ids)


def call(name="f", arguments='{"a": 1}'):
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_calls_in_text(size):
    text = f"Let me see.\n{call()}\n{call('g', '{}')}"
    message, reason, warnings, deltas = written(CallsInText(offer("f", "g")), text, size=size)
    assert calls_of(message) == [("f", '{"a": 1}'), ("g", "{}")]
    assert message["content"] == "Let me see.\n"
    assert (reason, warnings) == ("tool_calls", [])
    assert [each["index"] for each in deltas[-1]["tool_calls"]] == [0, 1]


@pytest.mark.parametrize(
    ("text", "content"),
    [(call(), None), (f"{call()} done", "done"), (f"a{call()}b", "ab"), (call()[:-12], None)],
)
def test_what_stands_around_a_call(text, content):
    message, *_ = written(CallsInText(offer("f")), text)
    assert calls_of(message) == [("f", '{"a": 1}')]
    assert message["content"] == content


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    "text",
    [
        "Hello",
        "a < b <tool_cal",
        "<<tool<",
        "",
    ],
)
def test_text_without_a_call_stays(text, size):
    message, reason, warnings, _ = written(CallsInText(offer("f")), text, "stop", size)
    assert message == {"role": "assistant", "content": text, "refusal": None}
    assert (reason, warnings) == ("stop", [])


def test_only_what_may_begin_a_call_is_held_back():
    writer = CallsInText(offer("f"))
    assert writer.push("a <tool") == {"content": "a "}
    assert writer.push("_ca") == {}
    assert writer.push("b") == {"content": "<tool_cab"}
    assert writer.push("<tool_call") == {}
    assert writer.end("stop") == ({"content": "<tool_call"}, "stop")


@pytest.mark.parametrize(
    "text",
    [
        call("h"),
        call(arguments="[1]"),
        call(arguments='"x"'),
        "<tool_call>nonsense</tool_call>",
        "<tool_call>[1]</tool_call>",
        "<tool_call>" + "[" * 100_000,
        call() + call("h"),
    ],
)
def test_what_is_no_call_is_left_as_text_with_a_warning(text):
    message, reason, warnings, _ = written(CallsInText(offer("f")), "x " + text, size=1000)
    assert message == {"role": "assistant", "content": "x " + text, "refusal": None}
    assert reason == "stop"
    assert "left as text" in warnings[0]


def test_a_call_without_arguments_and_one_in_another_alphabet():
    message, *_ = written(CallsInText(offer("f")), '<tool_call>{"name": "f"}</tool_call>')
    assert calls_of(message) == [("f", "{}")]
    message, *_ = written(CallsInText(offer("f")), call(arguments='{"a": "ü"}'))
    assert json.loads(calls_of(message)[0][1]) == {"a": "ü"}
    assert "ü" in calls_of(message)[0][1]


def test_an_answer_that_ended_for_its_length_keeps_that_reason():
    assert written(CallsInText(offer("f")), call(), "length")[1] == "length"


def test_one_call_is_kept_where_several_are_not_wanted():
    text = call() + call(arguments="{}")
    message, reason, warnings, _ = written(CallsInText(offer("f", several=False)), text)
    assert calls_of(message) == [("f", '{"a": 1}')]
    assert reason == "tool_calls"
    assert "2 calls" in warnings[0]
    assert written(CallsInText(offer("f", several=False)), call())[2] == []


def test_deltas_are_not_changed_when_they_are_joined():
    first = {
        "tool_calls": [
            {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}}
        ]
    }
    joined([first, {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}])
    assert first["tool_calls"][0]["function"]["arguments"] == "{"
