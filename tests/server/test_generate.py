"""The length, the cost and the other figures of answers."""

import json
import time

import httpx
import pytest
from engine.fakes import fake_model
from server.serving import serving

CONTEXT = 64


@pytest.fixture(scope="module")
def client():
    """A server of fakes that writes a hundred times the same letter, whatever the prompt is."""
    model = fake_model(b"a" * 100, context_length=CONTEXT)
    with serving(model) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


CHAT = [{"role": "user", "content": "x"}]
CHAT_TOKENS = len("<user>x\n<assistant>") + 1


def chat(client, **body):
    return client.post("/v1/chat/completions", json={"messages": CHAT, "temperature": 0, **body})


def complete(client, **body):
    return client.post("/v1/completions", json={"prompt": "x", "temperature": 0, **body})


def length(response):
    """Tokens of the answer, and why it ended."""
    assert response.status_code == 200, response.text
    answer = response.json()
    (choice,) = answer["choices"]
    text = choice["text"] if "text" in choice else choice["message"]["content"]
    assert text == "a" * answer["usage"]["completion_tokens"]
    return len(text), choice["finish_reason"]


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({}, 16),
        ({"max_tokens": None}, 16),
        ({"max_tokens": 5}, 5),
        ({"max_tokens": 0}, 0),
        ({"max_tokens": -1}, CONTEXT - 2),
        ({"max_tokens": CONTEXT - 2}, CONTEXT - 2),
        ({"max_tokens": 10**6}, CONTEXT - 2),
        ({"max_completion_tokens": 7}, 7),
        ({"max_tokens": 5, "max_completion_tokens": 7}, 7),
        ({"max_tokens": 5, "max_completion_tokens": 0}, 0),
        ({"n_predict": 4}, 4),
        ({"n_predict": 4, "max_tokens": 5}, 5),
        ({"n_predict": -1}, CONTEXT - 2),
        ({"prompt": "x" * (CONTEXT - 5)}, 4),
        ({"prompt": "x" * (CONTEXT - 2)}, 1),
        ({"prompt": "x" * (CONTEXT - 1), "max_tokens": 0}, 0),
    ],
)
def test_how_long_completions_are(client, body, tokens):
    assert length(complete(client, **body)) == (tokens, "length")


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({}, CONTEXT - CHAT_TOKENS),
        ({"max_tokens": 5}, 5),
        ({"max_tokens": 0}, 0),
        ({"max_tokens": -1}, CONTEXT - CHAT_TOKENS),
        ({"max_tokens": 65535}, CONTEXT - CHAT_TOKENS),
        ({"max_tokens": 5, "max_completion_tokens": 3}, 3),
    ],
)
def test_how_long_answers_of_chats_are(client, body, tokens):
    assert length(chat(client, **body)) == (tokens, "length")


@pytest.mark.parametrize("letters", [CONTEXT - 1, CONTEXT, 40 * CONTEXT])
def test_a_prompt_without_room_is_refused_in_the_words_that_clients_look_for(client, letters):
    response = complete(client, prompt="x" * letters)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "context_length_exceeded")
    assert error["message"].startswith(f"This model's maximum context length is {CONTEXT} tokens")
    assert "reduce its length" in error["message"]
    response = chat(client, messages=[{"role": "user", "content": "x" * letters}])
    assert response.json()["error"]["code"] == "context_length_exceeded"


def test_room_ends_with_the_memory_of_the_engine():
    with serving(fake_model(b"a" * 100, context_length=CONTEXT), kv_tokens=20) as url:
        answer = httpx.post(url + "/v1/completions", json={"prompt": "x", "max_tokens": -1, "temperature": 0})
        assert length(answer) == (18, "length")
        refused = httpx.post(url + "/v1/completions", json={"prompt": "x" * 30})
        assert "maximum context length is 20 tokens" in refused.json()["error"]["message"]
        (model,) = httpx.get(url + "/v1/models").json()["data"]
        assert (model["max_model_len"], model["shortlist"]["max_prompt"]) == (20, 20)


def test_the_limit_of_prompts_is_told_beside_the_context():
    with serving(fake_model(b"a" * 100, context_length=CONTEXT), max_prompt=10) as url:
        (model,) = httpx.get(url + "/v1/models").json()["data"]
        assert (model["max_model_len"], model["shortlist"]["max_prompt"]) == (CONTEXT, 10)
        assert httpx.post(url + "/v1/completions", json={"prompt": "x" * 9}).status_code == 200
        refused = httpx.post(url + "/v1/completions", json={"prompt": "x" * 10}).json()["error"]["message"]
        assert f"context length is {CONTEXT} tokens, and at most 10 of them may be the prompt" in refused


def events(response):
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


@pytest.mark.parametrize("ask", [chat, complete])
def test_an_answer_of_nothing_streams_too(client, ask):
    chunks = events(ask(client, max_tokens=0, stream=True, stream_options={"include_usage": True}))
    assert [c["finish_reason"] for chunk in chunks for c in chunk["choices"]][-1] == "length"
    assert chunks[-1]["usage"]["completion_tokens"] == 0
    assert chunks[-1]["usage"]["shortlist"]["rows_read"] == 0
    assert min(chunks[-1]["usage"]["shortlist"]["timings"].values()) >= 0


def test_nothing_is_generated_where_nothing_is_wanted(client):
    def generated():
        lines = client.get("/metrics").text.splitlines()
        return [line for line in lines if line.startswith("shortlist_engine_generated_tokens_total")]

    before = generated()
    answer = complete(client, max_tokens=0, n=3).json()
    assert [choice["text"] for choice in answer["choices"]] == ["", "", ""]
    assert generated() == before


def test_the_envelope_is_that_of_the_request(client):
    started = int(time.time())
    whole = complete(client, max_tokens=0).json()
    written = complete(client, max_tokens=1).json()
    for answer in (whole, written):
        assert started <= answer["created"] <= time.time()
        assert answer["model"] == "tiny"
        assert answer["system_fingerprint"] == "shortlist-0123456789ab"
        assert answer["object"] == "text_completion"
        assert "warnings" not in answer
    assert whole["id"] != written["id"]
    for chunk in events(chat(client, max_tokens=2, stream=True)):
        assert chunk["object"] == "chat.completion.chunk"
        assert chunk["system_fingerprint"] == "shortlist-0123456789ab"
        assert started <= chunk["created"] <= time.time()


def test_usage_counts_each_prompt_once_and_each_answer(client):
    usage = complete(client, prompt=["first", "other"], n=3, max_tokens=4).json()["usage"]
    assert usage["prompt_tokens"] == len("first") + len("other") + 2
    assert usage["completion_tokens"] == 2 * 3 * 4
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert len(usage["shortlist"]["seeds"]) == 6


def test_cached_tokens_are_those_that_no_choice_computed():
    with serving(fake_model(b"a" * 100, context_length=CONTEXT), slots=4) as url:

        def cached(prompt, **body):
            answer = httpx.post(url + "/v1/completions", json={"prompt": prompt, "max_tokens": 2, **body})
            return answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]

        assert cached("a long prompt to begin with", n=3) == 0
        again = cached("a long prompt to begin with", n=3)
        assert 20 < again <= len("a long prompt to begin with") + 1


def test_seeds_are_taken_as_they_come(client):
    def seeds(**body):
        return complete(client, temperature=1, max_tokens=1, **body).json()["usage"]["shortlist"]["seeds"]

    assert seeds(seed=5, n=2) == [5, 6]
    assert seeds(seed=-2) == [2**64 - 2]
    assert seeds(seed=2**64 - 1, n=2) == [2**64 - 1, 0]
    assert seeds(seed=-1) != seeds(seed=-1)
    assert complete(client, seed=5).json()["usage"]["shortlist"]["seeds"] == [None]


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
def served(serve_script):
    """Ask a server that answers every prompt with a text."""

    def start(text):
        return httpx.Client(base_url=serve_script(text.encode()), timeout=30)

    return start


def both(client, **body):
    """A choice of a chat and its warnings, whole and put together from a stream."""
    answer = chat(client, **body).json()
    (choice,) = answer["choices"]
    yield choice["message"], choice["finish_reason"], answer.get("warnings", [])
    chunks = events(chat(client, stream=True, **body))
    deltas = [c["delta"] for chunk in chunks for c in chunk["choices"]]
    content = "".join(delta.get("content") or "" for delta in deltas)
    message = {"role": "assistant", "content": content, "refusal": None}
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    if calls:
        arguments = "".join(call["function"]["arguments"] for call in calls)
        message["tool_calls"] = [{"type": "function", "function": {"name": "f", "arguments": arguments}}]
    reasons = [c["finish_reason"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"]]
    yield message, reasons, [warning for chunk in chunks for warning in chunk.get("warnings", ())]


def calls(message):
    return [
        (call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls", ())
    ]


def test_a_call_in_an_answer_comes_back_as_one(served):
    client = served('<tool_call>{"name": "f", "arguments": {}}</tool_call>')
    for message, reason, warnings in both(client, tools=[TOOL]):
        assert calls(message) == [("f", "{}")]
        assert not message["content"]
        assert reason in ("tool_calls", ["tool_calls"])
        assert warnings == []


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
def test_a_call_that_must_be_is_one(served, choice):
    """The grammar lets the script's letters through only where it must not choose otherwise."""
    client = served("x")
    for message, reason, warnings in both(client, tools=[TOOL], tool_choice=choice):
        assert calls(message) == [("f", "{}")]
        assert reason in ("tool_calls", ["tool_calls"])
        assert warnings == []
    for message, reason, warnings in both(client, tools=[TOOL], tool_choice=choice, max_tokens=3):
        assert calls(message) == [("f", "")]
        assert reason in ("length", ["length"])
        assert "cut off" in warnings[0]


def test_tools_that_must_not_be_used_are_none(served):
    client = served("Hello")
    for message, reason, warnings in both(client, tools=[TOOL], tool_choice="none"):
        assert (message["content"], calls(message)) == ("Hello", [])
        assert reason in ("stop", ["stop"])
        assert warnings == []


def test_what_the_template_does_not_show_is_told(served, monkeypatch):
    monkeypatch.setattr("engine.fakes.ByteTokenizer.template_knows", lambda self, variable: False)
    client = served("Hello")
    for message, _, warnings in both(client, tools=[TOOL]):
        assert message["content"] == "Hello"
        assert warnings == ["the chat template of this model does not show tools: it was not told of them"]
    called = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    for _, _, warnings in both(client, messages=[*CHAT, called]):
        assert warnings == ["the chat template of this model does not show tool_calls of earlier messages"]
    assert [warnings for _, _, warnings in both(client)] == [[], []]
    monkeypatch.setattr("engine.fakes.ByteTokenizer.chat_template", "{{ tool_calls }}")
    assert [warnings for _, _, warnings in both(client, messages=[*CHAT, called])] == [[], []]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"tools": [TOOL], "tool_choice": "required", "guided_regex": "a"}, "cannot match anything else"),
        ({"tool_choice": "required"}, "there are no tools"),
        ({"tools": [TOOL, TOOL]}, "the same name"),
        ({"top_logprobs": 2}, "top_logprobs needs logprobs"),
        ({"functions": [{"name": "f"}]}, "functions is not supported: use tools"),
        ({"store": True}, "store is not supported"),
        ({"prompt": "x"}, "prompt is for /v1/completions: use messages"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "paramters": {}}}]},
            "did you mean parameters?",
        ),
    ],
)
def test_chats_that_are_refused(client, body, message):
    response = chat(client, **body)
    assert response.status_code == 400
    assert message in response.json()["error"]["message"]


def test_what_reaches_the_template(client, monkeypatch):
    given = []

    def encode_chat(self, messages, **options):
        given.append((messages, options))
        return [1, 2]

    monkeypatch.setattr("engine.fakes.ByteTokenizer.encode_chat", encode_chat)

    def reach(**body):
        assert chat(client, max_tokens=1, **body).status_code == 200
        return given.pop()[1]

    plain = {
        "tools": None,
        "add_generation_prompt": True,
        "continue_final_message": False,
        "template_kwargs": {},
    }
    assert reach() == plain
    assert reach(add_generation_prompt=False) == {**plain, "add_generation_prompt": False}
    continued = {**plain, "add_generation_prompt": False, "continue_final_message": True}
    assert reach(continue_final_message=True) == continued
    assert reach(continue_final_message=True, add_generation_prompt=False) == continued
    both_asked = {**continued, "add_generation_prompt": True}  # which the tokenizer refuses
    assert reach(continue_final_message=True, add_generation_prompt=True) == both_asked
    variables = {"enable_thinking": False}
    assert reach(chat_template_kwargs=variables) == {**plain, "template_kwargs": variables}
    assert reach(reasoning_effort="low") == {**plain, "template_kwargs": {"reasoning_effort": "low"}}
    assert reach(reasoning_effort="none") == plain
    texts = [{"text": "a"}]
    assert reach(documents=texts) == {**plain, "template_kwargs": {"documents": texts}}
    assert reach(documents=[]) == plain
    own = {"reasoning_effort": "high"}
    assert reach(reasoning_effort="low", chat_template_kwargs=own) == {**plain, "template_kwargs": own}
    assert reach(tools=[TOOL])["tools"] == [TOOL]
    client.post("/tokenize", json={"messages": CHAT, "tools": [TOOL], "continue_final_message": True})
    assert given.pop()[1] == {**continued, "tools": [TOOL]}


@pytest.mark.parametrize(
    "name", ["tools", "chat_template_kwargs", "add_generation_prompt", "continue_final_message"]
)
def test_what_is_for_chats_is_not_for_texts(client, name):
    value = {"tools": [TOOL], "chat_template_kwargs": {}}.get(name, True)
    response = client.post("/tokenize", json={"content": "x", name: value})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == name


def test_special_tokens_of_a_prompt(client, monkeypatch):
    asked = []

    def encode(self, text, **options):
        asked.append(options)
        return [1]

    monkeypatch.setattr("engine.fakes.ByteTokenizer.encode", encode)
    for body in ({}, {"parse_special": True}, {"parse_special": False}, {"add_special_tokens": False}):
        assert complete(client, max_tokens=1, **body).status_code == 200
    assert [(each["parse_special"], each["add_special"]) for each in asked] == [
        (True, True),
        (True, True),
        (False, True),
        (True, False),
    ]


def test_dimensions_other_than_the_models_are_refused(url):
    def ask(**body):
        return httpx.post(url + "/v1/embeddings", json={"input": "x", **body}, timeout=30)

    width = len(ask().json()["data"][0]["embedding"])
    assert len(ask(dimensions=width).json()["data"][0]["embedding"]) == width
    refused = ask(dimensions=width - 1)
    assert refused.status_code == 400
    assert f"dimensions must be {width}" in refused.json()["error"]["message"]


def test_many_inputs_at_once(url):
    texts = [f"{number}" for number in range(2048)]
    data = httpx.post(url + "/v1/embeddings", json={"input": texts, "encoding_format": "base64"}, timeout=120)
    assert [each["index"] for each in data.json()["data"]] == list(range(2048))
    refused = httpx.post(url + "/v1/embeddings", json={"input": [*texts, "x"]})
    assert "holds 2049 texts" in refused.json()["error"]["message"]


def test_offsets_of_an_echo_with_special_tokens(url, alone):
    prompt = "<|im_start|>a Grüße"
    body = {"prompt": prompt, "echo": True, "logprobs": 0, "max_tokens": 2, "temperature": 0}
    (choice,) = httpx.post(url + "/v1/completions", json=body, timeout=30).json()["choices"]
    logprobs, answer = (
        choice["logprobs"],
        alone.generate(alone.tokenizer.encode(prompt, parse_special=True), max_tokens=2),
    )
    assert choice["text"] == prompt + answer.text
    starts = dict(zip(logprobs["tokens"], logprobs["text_offset"], strict=True))
    assert starts["<|im_start|>"] == 0
    assert starts["a"] == len("<|im_start|>")
    assert logprobs["text_offset"][-2] == len(prompt)
    tokens = alone.tokenizer.encode(prompt, parse_special=True)
    (choice,) = httpx.post(url + "/v1/completions", json={**body, "prompt": tokens}).json()["choices"]
    spelled = alone.tokenizer.decode(tokens, skip_special=False)
    assert choice["text"] == spelled + answer.text
    assert choice["logprobs"]["text_offset"][-2] == len(spelled)
