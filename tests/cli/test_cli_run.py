import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

FAKE = [sys.executable, str(Path(__file__).with_name("fake_shortlist.py"))]


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


@pytest.mark.parametrize("content", [b"", b"something"])
def test_text_on_standard_input_beside_a_prompt_is_an_error(content, tmp_path, capfd):
    def run(source, **options):
        command = [*FAKE, "run", "Hello", "abc", "--no-chat"]
        return subprocess.run(command, stdin=source, capture_output=True, text=True, **options)

    (tmp_path / "file").write_bytes(content)
    read, write = os.pipe()
    os.write(write, content)
    ends = [socket.socketpair(), socket.socketpair()]
    ends[0][1].send(content)
    with (tmp_path / "file").open("rb") as file:
        done = [run(file), run(read), run(ends[0][0].fileno())]
    for each in done:
        if content:
            assert (each.returncode, each.stdout) == (2, "")
            assert "two prompts, one on standard input" in each.stderr
        else:
            assert (each.returncode, each.stdout) == (0, "Hello\n")
    assert run(subprocess.DEVNULL).returncode == 0
    with (tmp_path / "file").open("rb") as file:
        file.read()
        assert run(file).returncode == 0, "all of it was read by somebody else"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--logprobs", "0"), "--logprobs does nothing without --json"),
        (("--seed", "0"), "--seed does nothing at temperature 0"),
        (("--top-k", "3"), "--top-k does nothing at temperature 0"),
        (("--top-p", "0.5"), "--top-p does nothing at temperature 0"),
        (("--min-p", "0.5", "--temperature", "0"), "--min-p does nothing at temperature 0"),
    ],
)
def test_options_that_do_nothing_are_errors(shortlist, options, message):
    result = shortlist("run", "Hello", "Say:", *options)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert result.err.count("\n") == 1


def test_options_that_say_what_holds_anyway_are_none(shortlist):
    neutral = ("--temperature", "0", "--top-k", "0", "--top-p", "1", "--min-p", "0")
    assert shortlist("run", "Hello", "Say:", *neutral).code == 0
    assert shortlist("run", "Hello", "Say:", "--temperature", "1", "--top-p", "0").code == 0
    drawn = ("--temperature", "1", "--top-k", "3", "--top-p", "0.5", "--min-p", "0.1", "--seed", "1")
    assert shortlist("run", "Hello", "Say:", *drawn).code == 0


def test_a_chat_template_that_is_not_used_is_said(shortlist):
    result = shortlist("run", "chatty", "Say:")
    assert result.out == "chatty\n"
    assert (
        "shortlist: chatty has a chat template, and the prompt is continued without it: --chat" in result.err
    )
    assert result.err.count("\n") == 1
    report = shortlist("run", "chatty", "Say:", "--json")
    assert report.err == ""
    assert "without it: --chat" in json.loads(report.out)["notes"][-1]
    for option in ("--chat", "--no-chat"):
        assert shortlist("run", "chatty", "Say:", option).err == ""
    assert shortlist("run", "chatty", "x" * 70_000).err.count("\n") == 1, "an error says it all"


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
