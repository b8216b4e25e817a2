import json

import pytest


def test_the_answer_goes_to_standard_output(shortlist):
    result = shortlist("run", "Hello é", "Say:")
    assert (result.code, result.out, result.err) == (0, "Hello é\n", "")


def test_options_reach_the_model(shortlist):
    assert shortlist("run", "Hello", "Say:", "-n", "3").out == "Hel\n"
    assert shortlist("run", "Hello", "Say:", "--stop", "l", "--stop", "x").out == "He\n"
    assert shortlist("run", "Hello", "Say:", "--stop", "x", "--stop", "o").out == "Hell\n"


@pytest.mark.parametrize("arguments", [("-",), ()])
def test_the_prompt_may_come_from_standard_input(shortlist, arguments):
    result = shortlist("run", "Hello", *arguments, "--json", stdin=b"four\n")
    assert json.loads(result.out)["stats"]["prompt_tokens"] == 1 + 4


def test_a_given_prompt_leaves_standard_input_alone(shortlist):
    result = shortlist("run", "Hello", "abc", "--json", stdin=b"something else")
    assert json.loads(result.out)["stats"]["prompt_tokens"] == 1 + 3


def test_json_holds_the_text_and_what_it_cost(shortlist):
    result = shortlist(
        "run", "Hello", "Say:", "--json", "--temperature", "0.5", "--seed", "7", "--logprobs", "1"
    )
    report = json.loads(result.out)
    assert (report["model"], report["text"], report["finish_reason"]) == ("Hello", "Hello", "stop")
    assert report["seed"] == 7
    assert [entry["text"] for entry in report["logprobs"]] == list("Hello")
    assert report["stats"]["head"] == "exact"
    assert report["stats"]["bytes_per_token"] > 0


def test_stats_go_to_standard_error(shortlist):
    result = shortlist("run", "Hello", "Say:", "--stats")
    assert result.out == "Hello\n"
    for word in ("exact", "prefill", "decode", "read per token", "peak memory"):
        assert word in result.err


def test_the_chat_template_is_used_when_asked_for(shortlist):
    plain = shortlist("run", "Hello", "Say:", "--json")
    chat = shortlist("run", "Hello", "Say:", "--json", "--chat")
    tokens = [json.loads(result.out)["stats"]["prompt_tokens"] for result in (plain, chat)]
    assert tokens[1] > tokens[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Hello", ""), "the prompt is empty"),
        (("Hello",), "there is no prompt"),
        (("Hello", "x", "--temperature", "-1"), "temperature must be"),
        (("Hello", "x", "--top-p", "2"), "top-p must be"),
        (("Hello", "x", "--top-k", "many"), "--top-k"),
        (("Hello", "x", "-n", "0"), "at least 1"),
        (("Hello", "x", "-n", "70000"), "context holds 60000"),
        (("Hello", "x", "--exact", "--head", "dense"), "contradict"),
        (("Hello", "x", "--head", "fast"), "--head"),
        (("Hello", "x", "--bogus"), "--bogus"),
        (("Hello", "a\udcff"), "argument 3 is not valid UTF-8"),
        (("Hello", "x", "--stop", ""), "stop string"),
        ((), "MODEL"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(shortlist, arguments, message):
    result = shortlist("run", *arguments)
    assert result.code == 2
    assert result.out == ""
    assert message in result.err
    assert result.err.startswith("shortlist: ")
    assert result.err.count("\n") == 1


def test_standard_input_that_is_not_utf8(shortlist):
    result = shortlist("run", "Hello", "-", stdin=b"ab\xff")
    assert result.code == 2
    assert result.err == (
        "shortlist: standard input is not valid UTF-8 (byte 3): convert it, for example with iconv\n"
    )


def test_empty_standard_input(shortlist):
    assert shortlist("run", "Hello", "-", stdin=b"").code == 2
