"""Answers of the endpoints: a served tiny model against the same model alone."""

import base64
import codecs
import json
from collections import defaultdict

import httpx
import numpy as np
import pytest

PROMPT = "The cat"


@pytest.fixture(scope="module")
def client(url):
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client


def complete(client, **body):
    response = client.post(
        "/v1/completions", json={"prompt": PROMPT, "max_tokens": 8, "temperature": 0, **body}
    )
    assert response.status_code == 200, response.text
    return response.json()


def chat(client, **body):
    messages = [{"role": "user", "content": "Hello"}]
    response = client.post(
        "/v1/chat/completions", json={"messages": messages, "max_tokens": 8, "temperature": 0, **body}
    )
    assert response.status_code == 200, response.text
    return response.json()


def streamed(client, path, **body):
    """The chunks of a stream."""
    with client.stream("POST", path, json={"stream": True, **body}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_a_completion_is_what_the_model_writes_alone(client, alone):
    answer = complete(client)
    expected = alone.generate(PROMPT, max_tokens=8)
    (choice,) = answer["choices"]
    assert answer["object"] == "text_completion"
    assert answer["model"] == "tiny"
    assert choice["text"] == expected.text
    assert choice["finish_reason"] == expected.finish_reason
    assert answer["usage"]["prompt_tokens"] == expected.stats.prompt_tokens
    assert answer["usage"]["completion_tokens"] == len(expected.tokens)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.9, "seed": 5},
        {"temperature": 0.9, "seed": 5, "top_p": 0.5, "top_k": 20},
        {"temperature": 1.2, "seed": 5, "min_p": 0.05},
        {"repetition_penalty": 1.5},
        {"frequency_penalty": 1.5, "presence_penalty": -0.5},
        {"stop": ["e", "zz"]},
    ],
)
def test_options_mean_what_they_mean_in_python(client, alone, options):
    expected = alone.generate(PROMPT, max_tokens=24, **options)
    assert complete(client, max_tokens=24, **options)["choices"][0]["text"] == expected.text


def test_logit_bias_bans_and_forces_tokens(client, alone):
    (forced,) = alone.tokenizer.encode("q", add_special=False)
    assert complete(client, logit_bias={str(forced): 100})["choices"][0]["text"] == "qqqqqqqq"
    first = alone.generate(PROMPT, max_tokens=1).tokens[0]
    banned = complete(client, logit_bias={str(first): -100}, max_tokens=1, logprobs=0)
    assert (
        banned["choices"][0]["text"] == alone.generate(PROMPT, max_tokens=1, logit_bias={first: -100.0}).text
    )


def test_several_choices_have_seeds_of_their_own(client, alone):
    choices = complete(client, n=3, temperature=1.0, seed=7)["choices"]
    expected = [alone.generate(PROMPT, max_tokens=8, temperature=1.0, seed=seed).text for seed in (7, 8, 9)]
    assert [choice["text"] for choice in choices] == expected
    assert [choice["index"] for choice in choices] == [0, 1, 2]


def test_several_prompts_as_text_and_as_tokens(client, alone):
    prompts = ["one", "two"]
    expected = [alone.generate(prompt, max_tokens=8).text for prompt in prompts]
    assert [choice["text"] for choice in complete(client, prompt=prompts)["choices"]] == expected
    tokens = [alone.encode(prompt) for prompt in prompts]
    assert [choice["text"] for choice in complete(client, prompt=tokens)["choices"]] == expected
    assert complete(client, prompt=tokens[0])["choices"][0]["text"] == expected[0]


def test_logprobs_are_those_of_the_python_api(client, alone):
    logprobs = complete(client, logprobs=3)["choices"][0]["logprobs"]
    expected = alone.generate(PROMPT, max_tokens=8, logprobs=3).logprobs
    assert logprobs["token_logprobs"] == [entry.chosen.logprob for entry in expected]
    assert [max(top, key=top.get) for top in logprobs["top_logprobs"]] == logprobs["tokens"]
    assert all(len(top) == 3 for top in logprobs["top_logprobs"])


def test_echo_scores_the_prompt(client, alone):
    prompt = "Grüße, the end"
    (choice,) = complete(client, prompt=prompt, echo=True, logprobs=2, max_tokens=4)["choices"]
    scored, answer = alone.score(prompt, logprobs=2), alone.generate(prompt, max_tokens=4, logprobs=2)
    logprobs = choice["logprobs"]
    assert choice["text"] == prompt + answer.text
    assert logprobs["token_logprobs"][0] is None
    assert logprobs["top_logprobs"][0] is None
    assert logprobs["token_logprobs"][1:] == [each.chosen.logprob for each in (*scored[1:], *answer.logprobs)]
    pieces = [alone.tokenizer.token_bytes(token) for token in (*alone.encode(prompt), *answer.tokens)]
    characters = codecs.getincrementaldecoder("utf-8")
    starts = [len(characters("replace").decode(b"".join(pieces[:i]))) for i in range(len(pieces))]
    assert logprobs["text_offset"] == starts
    assert "bytes:\\xc3" in logprobs["tokens"]


def test_echo_without_new_tokens(client, alone):
    (choice,) = complete(client, prompt=PROMPT, echo=True, logprobs=0, max_tokens=0)["choices"]
    assert choice["text"] == PROMPT
    assert len(choice["logprobs"]["tokens"]) == len(alone.encode(PROMPT))


def test_scores_are_the_log_softmax_of_the_logits(alone):
    tokens = alone.encode("The cat sat on the mat and there was much more to say about that")
    logits = alone.logits(tokens).astype(np.float64)
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    scored = [entry.chosen.logprob for entry in alone.score(tokens)[1:]]
    assert np.allclose(scored, logprobs[np.arange(len(tokens) - 1), tokens[1:]], atol=1e-3)


def test_a_chat_uses_the_template(client, alone):
    answer = chat(client)
    tokens = alone.tokenizer.encode_chat([{"role": "user", "content": "Hello"}])
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == alone.generate(tokens, max_tokens=8).text
    assert answer["usage"]["prompt_tokens"] == len(tokens)
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    joined = [{"role": "user", "content": "Hel\nlo"}]  # as vLLM and llama.cpp join them
    assert (
        chat(client, messages=[{"role": "user", "content": parts}])["choices"]
        == chat(client, messages=joined)["choices"]
    )


def test_chat_logprobs(client, alone):
    tokens = alone.tokenizer.encode_chat([{"role": "user", "content": "Hello"}])
    expected = alone.generate(tokens, max_tokens=8, logprobs=2).logprobs
    content = chat(client, logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]["content"]
    assert [entry["logprob"] for entry in content] == [entry.chosen.logprob for entry in expected]
    assert [len(entry["top_logprobs"]) for entry in content] == [2] * len(expected)
    assert content[0]["bytes"] == list(expected[0].chosen.text)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_a_stream_joined_is_the_whole_answer(client, path):
    body = {
        "max_tokens": 12,
        "temperature": 0.8,
        "seed": 3,
        "n": 2,
        "logprobs": path == "/v1/chat/completions" or 1,
    }
    body |= (
        {"prompt": PROMPT} if path == "/v1/completions" else {"messages": [{"role": "user", "content": "Hi"}]}
    )
    whole = client.post(path, json=body).json()
    chunks = streamed(client, path, **body)
    for choice in whole["choices"]:
        mine = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
        text = "".join(c["text"] if "text" in c else c["delta"].get("content", "") for c in mine)
        assert text == (choice["text"] if "text" in choice else choice["message"]["content"])
        assert [c["finish_reason"] for c in mine if c["finish_reason"]] == [choice["finish_reason"]]
        key = "token_logprobs" if path == "/v1/completions" else "content"
        assert [x for c in mine if c["logprobs"] for x in c["logprobs"][key]] == choice["logprobs"][key]
    assert all("usage" not in chunk for chunk in chunks)


def test_a_stream_tells_the_usage_where_that_is_asked_for(client):
    chunks = streamed(
        client, "/v1/completions", prompt=PROMPT, max_tokens=4, stream_options={"include_usage": True}
    )
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 4


def test_a_stream_with_echo_begins_with_the_prompt(client):
    chunks = streamed(client, "/v1/completions", prompt=PROMPT, max_tokens=2, echo=True, logprobs=0)
    assert chunks[0]["choices"][0]["text"] == PROMPT
    assert chunks[0]["choices"][0]["logprobs"]["text_offset"][0] == 0
    assert chunks[1]["choices"][0]["logprobs"]["text_offset"] == [len(PROMPT)]


def test_a_trace_tells_what_was_read_for_each_token(client):
    body = {"prompt": PROMPT, "max_tokens": 6, "temperature": 0, "shortlist": {"trace": True, "audit": 2}}
    chunks = streamed(client, "/v1/completions", **body)
    traces = [c["shortlist"] for chunk in chunks for c in chunk["choices"] if "shortlist" in c]
    assert len(traces) == 6
    for number, trace in enumerate(traces):
        assert 0 < trace["rows_read"] <= 320
        assert trace["rows_share"] == trace["rows_read"] / 320
        assert trace["bytes_read"] > 0
        assert trace["trace_seconds"] > 0
        assert trace["dense_rank"] == (1 if number % 2 == 0 else None)
        assert [candidate["rank"] for candidate in trace["candidates"]] == [1, 2, 3, 4, 5]
        assert [c["token"] for c in trace["candidates"] if c["chosen"]] == [trace["token"]]
        assert all(abs(each["estimated"] - each["exact"]) <= each["spread"] for each in trace["candidates"])


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_a_stream_tells_how_far_the_prompt_is_read_where_it_is_asked_to(client, path, monkeypatch):
    monkeypatch.setattr("shortlist.engine.engine.MOST", 8)
    text = "the cat and the dog " * 6
    body = (
        {"prompt": text} if path == "/v1/completions" else {"messages": [{"role": "user", "content": text}]}
    )
    body |= {"max_tokens": 2, "temperature": 0}
    chunks = streamed(client, path, **body, shortlist={"progress": True})
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    told = [choice["shortlist"] for choice in choices if "shortlist" in choice]
    assert told
    assert all(0 < each["prompt_read"] < each["prompt_tokens"] for each in told)
    assert [each["prompt_read"] for each in told] == sorted(each["prompt_read"] for each in told)
    waiting = [choice for choice in choices if "shortlist" in choice]
    assert all(each.get("text", "") == "" and not each.get("delta") for each in waiting)
    assert all(each["finish_reason"] is None and each["index"] == 0 for each in waiting)
    plain = streamed(client, path, **body)
    assert not any("shortlist" in choice for chunk in plain for choice in chunk["choices"])


def test_a_request_may_read_the_dense_head(client):
    own, dense = complete(client)["usage"], complete(client, shortlist={"head": "dense"})["usage"]
    assert own["shortlist"]["head"] == "exact"
    assert dense["shortlist"]["head"] == "dense"
    assert dense["shortlist"]["rows_share"] == 1
    assert own["shortlist"]["rows_read"] < dense["shortlist"]["rows_read"]


def test_an_audit_counts_agreement(client):
    usage = complete(client, shortlist={"audit": 3}, max_tokens=7)["usage"]["shortlist"]
    assert usage["audited"] == 3
    assert usage["agreement"] == 1.0
    assert complete(client)["usage"]["shortlist"]["agreement"] is None


def test_json_and_expressions(client):
    schema = {
        "type": "object",
        "properties": {"yes": {"type": "boolean"}},
        "required": ["yes"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    text = chat(client, response_format=wanted, max_tokens=40)["choices"][0]["message"]["content"]
    assert json.loads(text)["yes"] in (True, False)
    digits = complete(client, response_format={"type": "regex", "regex": "[0-9]{3}"}, max_tokens=40)[
        "choices"
    ][0]
    assert digits["text"].isdigit()
    assert len(digits["text"]) == 3
    assert digits["finish_reason"] == "stop"


def test_embeddings_are_pooled_hidden_states(client, alone):
    def embed(**body):
        response = client.post("/v1/embeddings", json={"model": "tiny", **body})
        assert response.status_code == 200, response.text
        return [each["embedding"] for each in response.json()["data"]]

    texts = ["one thing", "another one"]
    hidden = [alone.hidden(alone.encode(text)) for text in texts]
    for vector, states in zip(embed(input=texts), hidden, strict=True):
        mean = states.mean(axis=0)
        assert np.allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)
    (last,) = embed(input=alone.encode(texts[0]), pooling="last")
    assert np.allclose(last, hidden[0][-1] / np.linalg.norm(hidden[0][-1]), atol=1e-5)
    (coded,) = embed(input=texts[0], pooling="last", encoding_format="base64")
    assert np.frombuffer(base64.b64decode(coded), "<f4").tolist() == np.float32(last).tolist()


def test_long_texts_are_pooled_over_their_pieces(client, alone, monkeypatch):
    text = "the cat and the dog " * 4
    hidden = alone.hidden(alone.encode(text))
    monkeypatch.setattr("shortlist.engine.model.PREFILL_CHUNK", 8)
    for pooling, expected in (("mean", hidden.mean(axis=0)), ("last", hidden[-1])):
        response = client.post("/v1/embeddings", json={"input": text, "pooling": pooling}).json()
        vector = response["data"][0]["embedding"]
        assert np.allclose(vector, expected / np.linalg.norm(expected), atol=1e-4)
        assert np.isclose(np.linalg.norm(vector), 1)
    assert response["usage"] == {"prompt_tokens": len(hidden), "total_tokens": len(hidden)}


def test_texts_become_tokens_and_back(client, alone):
    text = "Grüße 🙂 <|im_end|>"
    tokens = client.post("/tokenize", json={"content": text}).json()["tokens"]
    assert tokens == alone.tokenizer.encode(text, add_special=False, parse_special=True)
    assert client.post("/tokenize", json={"prompt": text}).json()["tokens"] == tokens
    assert client.post("/detokenize", json={"tokens": tokens}).json()["content"] == text
    plain = client.post("/tokenize", json={"content": text, "parse_special": False}).json()["tokens"]
    assert plain == alone.tokenizer.encode(text, add_special=False)
    assert plain != tokens
    without = client.post("/detokenize", json={"tokens": tokens, "parse_special": False}).json()["content"]
    assert without == "Grüße 🙂 "
    for name in ("add_special", "add_special_tokens"):
        around = client.post("/tokenize", json={"content": text, name: True}).json()["tokens"]
        assert around == alone.tokenizer.encode(text, parse_special=True)
    messages = [{"role": "user", "content": "Hi"}]
    chat_tokens = client.post("/tokenize", json={"messages": messages}).json()["tokens"]
    assert chat_tokens == alone.tokenizer.encode_chat(messages)
    assert client.post("/tokenize", json={"content": ""}).json()["tokens"] == []


def test_what_is_served_is_told(client, alone):
    (model,) = client.get("/v1/models").json()["data"]
    assert model["id"] == "tiny"
    assert model["shortlist"]["head"] == "exact"
    assert model["shortlist"]["ffn"] == "dense"
    assert model["shortlist"]["sampling_defaults"] == alone.sampling_defaults
    assert model["shortlist"]["vocabulary"] == 320
    decoder = alone.decoder
    assert model["shortlist"]["dense_bytes_per_token"] == decoder.layer_bytes + decoder.head_rows.nbytes
    assert client.get("/v1/models/tiny").json() == model
    assert client.get("/v1/models/other").status_code == 404
    assert client.get("/v1/models/").json() == client.get("/v1/models").json()
    assert client.get("/health").json() == {"status": "ok"}


def test_metrics_count(client):
    def values():
        lines = [
            line.split(" ") for line in client.get("/metrics").text.splitlines() if not line.startswith("#")
        ]
        return defaultdict(float, {name: float(value) for name, value in lines})

    before = values()
    complete(client, shortlist={"audit": 1}, max_tokens=5)
    after = values()
    name = 'shortlist_requests_total{endpoint="/v1/completions",status="200"}'
    assert after[name] == before[name] + 1
    assert (
        after["shortlist_engine_generated_tokens_total"]
        == before["shortlist_engine_generated_tokens_total"] + 5
    )
    assert after["shortlist_audited_tokens_total"] == before["shortlist_audited_tokens_total"] + 5
    assert after["shortlist_agreed_tokens_total"] == before["shortlist_agreed_tokens_total"] + 5
    for name, tokens in (("first_token", 1), ("between_tokens", 4)):
        name = f"shortlist_{name}_seconds_count"
        assert after[name] == before[name] + tokens
    assert (
        after['shortlist_request_seconds_count{part="decode"}']
        == before['shortlist_request_seconds_count{part="decode"}'] + 1
    )
