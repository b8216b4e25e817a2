import pytest

from shortlist.cli.sampling import chat_options, describe_sampling, given_options


def sampling(options):
    return {name: getattr(options, name) for name in ("temperature", "top_k", "top_p", "min_p")}


def test_a_chat_samples_as_the_files_say_else_as_chats_do():
    usual = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}
    assert sampling(chat_options({}, {})) == usual
    assert chat_options({}, {}).max_tokens is None
    assert sampling(chat_options({"top_k": 7}, {})) == usual | {"top_k": 7}
    said = {"temperature": 0.6, "top_p": 0.9}
    assert sampling(chat_options(said, {})) == {"top_k": 0, "min_p": 0.0} | said
    assert chat_options({"temperature": 0.0}, {}).greedy


def test_what_is_given_comes_first():
    options = chat_options({"temperature": 0.6, "top_p": 0.9}, {"temperature": 1.0, "max_tokens": 5})
    assert (options.temperature, options.top_p, options.max_tokens) == (1.0, 0.9, 5)
    assert chat_options({}, {"temperature": 0.0}).greedy


def test_what_is_given():
    assert given_options(a=None, b=0, c="") == {"b": 0, "c": ""}


@pytest.mark.parametrize(
    ("suggested", "given", "line"),
    [
        ({}, {"temperature": 0}, "sampling: none, always the likeliest token"),
        (
            {"temperature": 0.6, "repetition_penalty": 1.1},
            {"seed": 3},
            "sampling: temperature 0.6, repetition penalty 1.1, seed 3 "
            "(the model's files say so; options override)",
        ),
        (
            {},
            {},
            "sampling: temperature 0.8, top k 40, top p 0.95, min p 0.05 "
            "(the model's files say nothing; options override)",
        ),
    ],
)
def test_what_is_used_is_said(suggested, given, line):
    assert describe_sampling(chat_options(suggested, given), suggested) == line
