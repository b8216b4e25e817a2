import json
from typing import Any

import pytest
from engine.fakes import fake_model

from shortlist.cli import chat
from shortlist.cli.conversation import Conversation
from shortlist.engine.options import GenerationOptions


def conversation(answer="Fine.", system="", context=None, **options) -> Any:
    chosen = GenerationOptions(**{"max_tokens": None, **options})
    return Conversation(fake_model(answer.encode(), context=context), system, chosen)


def talk(monkeypatch, talked, *messages, interactive=True, json=False):
    waiting = list(messages)

    def read():
        if not waiting:
            raise EOFError
        return waiting.pop(0)

    monkeypatch.setattr(chat, "message_reader", lambda: read)
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
    assert capsys.readouterr().out == ""


def test_ctrl_c_at_the_prompt_leaves(monkeypatch):
    def read():
        raise KeyboardInterrupt

    monkeypatch.setattr(chat, "message_reader", lambda: read)
    with pytest.raises(KeyboardInterrupt):
        chat.talk(conversation(), interactive=True, json=False)


def test_a_pasted_path_is_no_command(monkeypatch, capsys):
    talked = conversation()
    talk(monkeypatch, talked, "/usr/bin\n/usr/lib", "/system Be\nkind.")
    assert capsys.readouterr().out == "Fine.\n"
    assert talked.system == "Be\nkind."


def test_ctrl_c_stops_an_answer_and_keeps_its_start(monkeypatch, capsys):
    talked = conversation("Fine.")
    talked.model.decoder.interrupt_after = (
        len(talked.model.tokenizer.encode_chat([{"role": "user", "content": "Hi"}])) + 2
    )
    talk(monkeypatch, talked, "Hi", "Again")
    assert talked.turns[1] == {"role": "assistant", "content": "Fin"}
    assert talked.turns[3] == {"role": "assistant", "content": "Fine."}
    assert capsys.readouterr().out == "Fin\nFine.\n"


def test_a_message_that_alone_is_too_long_is_reported_and_the_chat_goes_on(monkeypatch, capsys):
    talked = conversation()
    talk(monkeypatch, talked, "x" * 2000, "Hi")
    out, err = capsys.readouterr()
    assert "the context holds 1024" in err
    assert "/reset starts over" in err
    assert out.split() == ["Fine."]
    assert len(talked.turns) == 2


# A message takes 24 tokens, an answer 17, the begin token 1, the beginning of an answer 11; 6 are kept free.
@pytest.mark.parametrize(("context", "dropped"), [(124, 0), (123, 1), (83, 1), (82, 2)])
def test_a_full_context_forgets_the_oldest_exchanges(monkeypatch, capsys, context, dropped):
    talked = conversation(context=context, max_tokens=6)
    talk(monkeypatch, talked, "a" * 17, "b" * 17, "c" * 17)
    assert [turn["content"][0] for turn in talked.turns if turn["role"] == "user"] == list("abc")[dropped:]
    assert len(talked.turns) == 2 * (3 - dropped)
    assert talked.dropped == min(dropped, 1), "those that the latest answer made room for"
    err = capsys.readouterr().err
    assert err.count("the context is full: the oldest 1 of the exchanges so far are forgotten") == dropped


def test_the_system_message_is_kept_and_room_for_an_answer(monkeypatch):
    talked = conversation(system="Be brief.", context=200)
    seen = []
    encode = talked.model.tokenizer.encode_chat
    monkeypatch.setattr(
        talked.model.tokenizer, "encode_chat", lambda messages: seen.append(messages) or encode(messages)
    )
    talk(monkeypatch, talked, "a" * 60, "b" * 60, "c" * 60)
    assert seen[-1][0] == {"role": "system", "content": "Be brief."}
    assert len(encode(seen[-1])) <= 150, "a quarter is for the answer"
    assert len(talked.turns) == 2


def test_a_quarter_of_the_context_is_kept_free_for_an_answer_without_a_limit():
    talked = conversation(context=200)
    turns = [{"role": "user", "content": ""}, {"role": "assistant", "content": "b"}]
    question = {"role": "user", "content": "c"}
    room = 150 - len(talked.encode([*turns, question]))
    for length, kept in ((room, 3), (room + 1, 1)):
        turns[0]["content"] = "a" * length
        assert len(talked._fitting([*turns, question])[0]) == kept


def test_an_answer_that_was_cut_off_says_so(monkeypatch, capsys):
    talk(monkeypatch, conversation(max_tokens=3), "Hi")
    assert "cut off: -n allows 3 tokens" in capsys.readouterr().err
    talk(monkeypatch, conversation("x" * 500, context=64), "Hi")
    assert "cut off: the context allows" in capsys.readouterr().err


def test_an_answer_is_sampled_as_the_options_say(monkeypatch, capsys):
    talked = conversation(temperature=0.7, top_k=5)
    talk(monkeypatch, talked, "Hi", "/stats", "/help")
    err = capsys.readouterr().err
    assert err.count("sampling: temperature 0.7, top k 5 (the model's files say nothing") == 2
    assert talked.latest.seed is not None


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


def test_a_chat_samples_unless_told_not_to(shortlist):
    sampled = json.loads(shortlist("chat", "Fine.", "--json", stdin=b"Hi\n").out)
    greedy = json.loads(shortlist("chat", "Fine.", "--json", "--temperature", "0", stdin=b"Hi\n").out)
    assert sampled["seed"] is not None
    assert greedy["seed"] is None
    assert sampled["dropped_exchanges"] == 0


@pytest.mark.parametrize(
    "option", [("--top-k", "3"), ("--top-p", "0.9"), ("--min-p", "0.1"), ("--seed", "1")]
)
def test_options_of_a_draw_are_refused_where_nothing_is_drawn(shortlist, option):
    result = shortlist("chat", "Fine.", "--temperature", "0", *option, stdin=b"Hi\n")
    assert result.code == 2
    assert f"{option[0]} does nothing at temperature 0" in result.err
    assert shortlist("chat", "Fine.", *option, stdin=b"Hi\n").code == 0
