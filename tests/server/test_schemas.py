"""The first and the last value that each field takes."""

import pytest
from pydantic import ValidationError

from shortlist.server.schemas import ChatBody, CompletionBody, EmbeddingBody, ShortlistOptions, TokenizeBody

MESSAGE = {"role": "user", "content": "x"}
TOOL = {"type": "function", "function": {"name": "f"}}

CHAT, COMPLETION, EMBEDDING = (
    (ChatBody, {"messages": [MESSAGE]}),
    (CompletionBody, {"prompt": "x"}),
    (EmbeddingBody, {"input": "x"}),
)


@pytest.mark.parametrize(
    ("body", "name", "taken", "refused"),
    [
        (COMPLETION, "temperature", [0, 0.001, 100], [-0.001, 100.001]),
        (COMPLETION, "top_p", [0, 1, 1.0], [-0.001, 1.001]),
        (COMPLETION, "top_k", [-1, 0, 5], [-2]),
        (COMPLETION, "min_p", [0, 1], [-0.001, 1.001]),
        (COMPLETION, "repetition_penalty", [0.01, 100], [0.009, 100.1]),
        (COMPLETION, "frequency_penalty", [-2, 2], [-2.1, 2.1]),
        (COMPLETION, "presence_penalty", [-2, 2], [-2.1, 2.1]),
        (
            COMPLETION,
            "logit_bias",
            [{}, dict.fromkeys(map(str, range(1024)), 1)],
            [dict.fromkeys(map(str, range(1025)), 1)],
        ),
        (COMPLETION, "n", [1, 128], [0, 129]),
        (COMPLETION, "best_of", [1], [0]),
        (COMPLETION, "max_tokens", [-1, 0, 10**9], [-2]),
        (COMPLETION, "max_completion_tokens", [-1, 0], [-2]),
        (COMPLETION, "n_predict", [-1, 0], [-2]),
        (COMPLETION, "logprobs", [0, 100], [-1, 101]),
        (COMPLETION, "guided_choice", [["a"]], [[], [1], "a"]),
        (CHAT, "top_logprobs", [0, 100], [-1, 101]),
        (CHAT, "messages", [[MESSAGE], [MESSAGE] * 4096], [[], [MESSAGE] * 4097, None]),
        (CHAT, "tools", [[], [TOOL] * 128], [[TOOL] * 129]),
        (EMBEDDING, "dimensions", [1], [0]),
        (EMBEDDING, "encoding_format", ["float", "base64"], ["hex"]),
        (EMBEDDING, "pooling", ["mean", "last"], ["first"]),
        ((ShortlistOptions, {}), "audit", [1], [0]),
        ((ShortlistOptions, {}), "head", ["own", "dense"], ["exact"]),
        ((TokenizeBody, {}), "messages", [[MESSAGE] * 4096], [[], [MESSAGE] * 4097]),
        ((TokenizeBody, {}), "tools", [[TOOL] * 128], [[TOOL] * 129]),
    ],
)
def test_the_range_of_a_field(body, name, taken, refused):
    kind, needed = body
    for value in taken:
        assert getattr(kind.model_validate({**needed, name: value}), name) is not None
    for value in refused:
        with pytest.raises(ValidationError) as raised:
            kind.model_validate({**needed, name: value})
        assert raised.value.errors()[0]["loc"][0] == name


@pytest.mark.parametrize("body", [CHAT, COMPLETION, EMBEDDING])
def test_null_is_the_same_as_nothing(body):
    kind, needed = body
    names = kind.honoured() - set(needed)
    assert kind.model_validate({**needed, **dict.fromkeys(names)}) == kind.model_validate(needed)


@pytest.mark.parametrize(
    ("given", "seed"),
    [(-1, None), (0, 0), (2**64 - 1, 2**64 - 1), (-2, 2**64 - 2), (-(2**63), 2**63), (5.0, 5)],
)
def test_seeds(given, seed):
    assert CompletionBody.model_validate({"prompt": "x", "seed": given}).seed == seed


def test_usage_is_told_where_it_is_asked_for():
    def asks(**body):
        return CompletionBody.model_validate({"prompt": "x", **body}).include_usage

    assert [asks(), asks(stream_options={}), asks(stream_options={"include_usage": False})] == [False] * 3
    assert asks(stream_options={"include_usage": True})
