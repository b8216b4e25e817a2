import json
from typing import Any

import pytest
from engine.fakes import fake_model

from shortlist.cli import chat
from shortlist.cli.conversation import Conversation
from shortlist.cli.line_input import read_message

CTRL_C = "\x03"


class Typed:
    """Lines that a person types."""

    def __init__(self, *lines):
        self.lines = list(lines)
        self.prompts = []

    def __call__(self, prompt):
        self.prompts.append(prompt)
        if not self.lines:
            raise EOFError
        line = self.lines.pop(0)
        if line is CTRL_C:
            raise KeyboardInterrupt
        return line


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["hello"], "hello"),
        (["one \\", "two\\", "three"], "one \ntwo\nthree"),
        (['"""', "one", "  two", '"""'], "one\n  two"),
        (['"""one', 'two"""'], "one\ntwo"),
        (['"""one"""'], "one"),
        (['"""', "a \\", "/quit", '"""'], "a \\\n/quit"),
        (["one\\"], "one"),
        (['"""', "one"], "one"),
    ],
)
def test_a_message_has_one_line_or_many(lines, message):
    assert read_message(Typed(*lines)) == message


def test_the_end_of_the_input_is_no_message():
    with pytest.raises(EOFError):
        read_message(Typed())


def conversation(answer="Fine.", **options) -> Any:
    return Conversation(fake_model(answer.encode()), **options)


def talk(monkeypatch, talked, *lines, interactive=True, json=False):
    monkeypatch.setattr(chat, "terminal_reader", lambda: Typed(*lines))
    chat.talk(talked, interactive=interactive, json=json)


def test_the_history_is_kept_and_reset(monkeypatch, capsys):
    talked = conversation()
    talk(monkeypatch, talked, "How are you?", "And now?")
    assert talked.turns == [
        {"role": "user", "content": "How are you?"},
        {"role": "assistant", "content": "Fine."},
        {"role": "user", "content": "And now?"},
        {"role": "assistant", "content": "Fine."},
    ]
    talk(monkeypatch, talked, "/reset")
    assert talked.turns == []
    assert capsys.readouterr().out.startswith("Fine.\nFine.\n")


def test_the_cache_is_reused_from_turn_to_turn(monkeypatch):
    talked = conversation()
    talk(monkeypatch, talked, "How are you?", "And now?")
    assert talked.latest is not None
    assert talked.latest.stats.reused_tokens > len("How are you?")


def test_the_system_message_comes_first_and_can_be_changed(monkeypatch):
    talked = conversation(system="Be brief.")
    seen = []
    encode = talked.model.tokenizer.encode_chat
    monkeypatch.setattr(
        talked.model.tokenizer, "encode_chat", lambda messages: seen.append(messages[0]) or encode(messages)
    )
    talk(monkeypatch, talked, "Hi", "/system Be kind.", "Hi", "/system", "Hi")
    assert [(each["role"], each["content"]) for each in seen] == [
        ("system", "Be brief."),
        ("system", "Be kind."),
        ("user", "Hi"),
    ]


def test_commands_that_only_tell(monkeypatch, capsys):
    talk(monkeypatch, conversation(), "/stats", "/help", "/nonsense", "Hi", "/stats", "/quit", "not read")
    out, err = capsys.readouterr()
    assert out == "Fine.\n"
    assert "no answer yet" in err
    assert "/reset" in err
    assert "no command /nonsense" in err
    assert "read per token" in err


def test_empty_lines_are_not_sent(monkeypatch, capsys):
    talk(monkeypatch, conversation(), "", "   ")
    assert capsys.readouterr().out == "\n"


def test_ctrl_c_at_the_prompt_says_how_to_leave(monkeypatch, capsys):
    talk(monkeypatch, conversation(), CTRL_C, "Hi")
    assert "/quit or Ctrl-D leaves" in capsys.readouterr().out


def test_ctrl_c_stops_an_answer_and_keeps_its_start(monkeypatch, capsys):
    talked = conversation("Fine.")
    talked.model.decoder.interrupt_after = (
        len(talked.model.tokenizer.encode_chat([{"role": "user", "content": "Hi"}])) + 2
    )
    talk(monkeypatch, talked, "Hi", "Again")
    assert talked.turns[1] == {"role": "assistant", "content": "Fin"}
    assert talked.turns[3] == {"role": "assistant", "content": "Fine."}
    assert capsys.readouterr().out == "Fin\nFine.\n\n"


def test_a_full_context_is_reported_and_the_chat_goes_on(monkeypatch, capsys):
    talked = conversation()
    talk(monkeypatch, talked, "x" * 2000, "Hi")
    out, err = capsys.readouterr()
    assert "the context holds 1024" in err
    assert "/reset starts over" in err
    assert out.split() == ["Fine."]
    assert len(talked.turns) == 2


def test_json_gives_one_line_for_each_answer(shortlist):
    result = shortlist("chat", "Fine.", "--json", stdin=b"How are you?\nAnd now?\n")
    answers = [json.loads(line) for line in result.out.splitlines()]
    assert [(answer["role"], answer["text"]) for answer in answers] == [("assistant", "Fine.")] * 2
    assert answers[1]["stats"]["reused_tokens"] > 0
    assert (result.code, result.err) == (0, "")


def test_piped_messages_are_answered(shortlist):
    result = shortlist("chat", "Fine.", stdin=b"How are you?\nAnd now?")
    assert (result.code, result.out, result.err) == (0, "Fine.\nFine.\n", "")


def test_piped_bytes_that_are_not_utf8(shortlist):
    result = shortlist("chat", "Fine.", stdin=b"\xff\n")
    assert result.code == 2
    assert "standard input is not valid UTF-8" in result.err
