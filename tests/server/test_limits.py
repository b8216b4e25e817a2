"""Requests that the server refuses, and its use while clients misbehave."""

import http.client
import json
import logging
import re
import socket
import threading
import time

import httpx
import numpy as np
import pytest
from engine.fakes import fake_model
from server.serving import serving

from shortlist.errors import CheckpointError, UsageError
from shortlist.server.app import create_app
from shortlist.server.settings import ServerSettings

SECRET = "pale blue elephants"


@pytest.fixture(scope="module")
def url():
    with serving(fake_model(b"Hello"), max_body=20_000, max_prompt=100) as address:
        yield address


def raw(url, payload):
    """An open connection that has sent `payload`."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.sendall(payload)
    return connection


def answered(connection):
    """The status and the JSON of the answer on an open connection, which is closed."""
    with connection:
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, json.loads(response.read())


def as_request(body):
    """The bytes of a request for a completion."""
    head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
    return f"{head}{len(body)}\r\n\r\n".encode() + body


def posted(url, body, path="/v1/completions", **options):
    return httpx.post(
        url + path, content=body, headers={"content-type": "application/json"}, timeout=30, **options
    )


def counted(url, *names):
    """The sum of some counters of the engine."""
    values = dict(line.split(" ") for line in httpx.get(url + "/metrics").text.splitlines() if line[0] != "#")
    return sum(float(values[f"shortlist_engine_{name}"]) for name in names)


def running(url):
    return counted(url, "running", "waiting")


def eventually(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.03)


def assert_error(response, status, kind="invalid_request_error"):
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == kind
    assert error["message"]
    return error


BAD_VALUES = [
    ("prompt", 5),
    ("prompt", None),
    ("prompt", []),
    ("prompt", [[]]),
    ("prompt", ["a", 1]),
    ("prompt", [-1]),
    ("max_tokens", "8"),
    ("max_tokens", 8.5),
    ("max_tokens", True),
    ("max_tokens", -2),
    ("max_completion_tokens", -2),
    ("n_predict", -2),
    ("temperature", "hot"),
    ("temperature", -0.1),
    ("temperature", True),
    ("temperature", 100.1),
    ("top_p", -0.1),
    ("top_p", 1.1),
    ("top_k", -2),
    ("top_k", True),
    ("top_k", 1.5),
    ("min_p", 1.1),
    ("min_p", -0.1),
    ("repetition_penalty", 0),
    ("repetition_penalty", 101),
    ("n", 0),
    ("n", 129),
    ("n", True),
    ("best_of", 0),
    ("stream", 1),
    ("echo", "yes"),
    ("stop", 7),
    ("logit_bias", [1]),
    ("logprobs", 10_000),
    ("frequency_penalty", 3),
    ("frequency_penalty", -3),
    ("presence_penalty", 2.1),
    ("logit_bias", {"1": True}),
    ("seed", -(2**63) - 1),
    ("seed", 2**64),
    ("seed", 1.5),
    ("seed", True),
    ("stream_options", {"include_usage": 1}),
    ("response_format", {"type": "poem"}),
]


@pytest.mark.parametrize(("name", "value"), BAD_VALUES)
def test_wrong_types_and_ranges_name_the_parameter(url, name, value):
    error = assert_error(posted(url, json.dumps({"prompt": "x", name: value})), 400)
    assert error["param"] == name
    assert error["code"] in ("invalid_type", "invalid_value", "unknown_parameter")
    assert "Input" not in error["message"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": [300]}, "token 300 is not in the vocabulary"),
        ({"prompt": "\ud800"}, "not valid UTF-8"),
        ({"prompt": "x" * 101}, "at most 100 of them"),
        ({"prompt": "x" * 2000}, "2000 characters"),
        ({"best_of": 2}, "best_of other than n (1)"),
        ({"best_of": 1, "n": 2}, "best_of other than n (2)"),
        ({"suffix": "x"}, "suffix is not supported"),
        ({"prompt_logprobs": 0}, "prompt_logprobs is not supported"),
        ({"temprature": 1}, "did you mean temperature?"),
        (
            {"shortlist": {"heads": "dense"}},
            "shortlist: heads is not a parameter that is known here: did you mean head?",
        ),
        ({"messages": []}, "messages is for /v1/chat/completions: use prompt"),
        ({"tools": [{}]}, "tools is for /v1/chat/completions"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit bias must be from -100 to 100"),
        ({"logit_bias": {"5000": 1}}, "token 5000 is not in the vocabulary"),
        ({"response_format": {"type": "regex"}}, "needs a field regex"),
        ({"response_format": {"type": "regex", "regex": "(a"}}, "regular expression cannot be used"),
        ({"prompt": ["x"] * 40, "n": 16}, "asks for 640 texts"),
        ({"prompt": ["x"] * 65}, "asks for 65 texts: ask for at most 64"),
        # Before any prompt is scored, which these fakes could not.
        ({"prompt": ["x"] * 65, "echo": True, "logprobs": 1}, "asks for 65 texts"),
    ],
)
def test_values_that_cannot_be_used_say_why(url, change, message):
    error = assert_error(posted(url, json.dumps({"prompt": "x", **change})), 400)
    assert message in error["message"]


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": ["x"] * 64, "max_tokens": 1},
        {"prompt": ["x"] * 2048, "max_tokens": 0},
        {"best_of": 2, "n": 2},
        {"best_of": 1},
        {"suffix": ""},
        {"suffix": None},
        {"logit_bias": {}},
        {"stop": ["", ""]},
        {"stop": [str(i) for i in range(64)]},
        {"n": 2.0, "max_tokens": 3.0, "seed": 7.0},
        {"stream_options": {}},
        {"user": "me", "keep_alive": "5m", "cache_prompt": True},
        {"temperature": 1e-6},
        {"top_k": -1},
        {"top_p": 0},
    ],
)
def test_values_that_ask_for_nothing_or_little_pass(url, change):
    response = posted(url, json.dumps({"prompt": "x", "temperature": 0, **change}))
    assert response.status_code == 200, response.text
    assert {choice["text"] for choice in response.json()["choices"]} <= {"Hello", "Hel", "H", ""}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b"\xff\xfe",
        b'{"prompt": ' + b"[" * 9_000,
        b'{"prompt": "x", "seed": ' + b"9" * 9_000 + b"}",
    ],
)
def test_bodies_that_are_no_request(url, body):
    error = assert_error(posted(url, body), 400)
    if body in (b"[1]", b"null"):
        assert "the body" in error["message"]
        assert error["code"] in ("invalid_type", "missing_required_parameter")
    elif body:
        assert error["code"] == "invalid_json"


def test_unknown_paths_methods_and_models(url):
    error = assert_error(httpx.get(url + "/models"), 404, "not_found_error")
    assert "did you mean /v1/models?" in error["message"]
    refused = httpx.get(url + "/v1/completions")
    assert "use POST" in assert_error(refused, 405)["message"]
    assert refused.headers["Allow"] == "POST"
    error = assert_error(posted(url, '{"prompt": "x", "model": "gpt"}'), 404, "not_found_error")
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert error["message"] == "The model `gpt` does not exist: this server has `tiny`"
    assert assert_error(httpx.get(url + "/v1/models/gpt"), 404, "not_found_error") == error


def test_bodies_beyond_the_limit(url):
    assert_error(posted(url, b"x" * 20_001), 413)
    assert posted(url, b'{"prompt": "x"}'.ljust(20_000)).status_code == 200
    assert_error(posted(url, b'{"prompt": "x"}'.ljust(20_001)), 413)
    chunks = (b"x" * 1000 for _ in range(30))
    assert_error(httpx.post(url + "/v1/completions", content=chunks), 413)
    connection = raw(url, b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n")
    assert b" 413 " in connection.recv(100)
    connection.close()


def test_a_body_that_does_not_come_is_given_up(url, monkeypatch):
    monkeypatch.setattr("shortlist.server.limits.BODY_SECONDS", 0.2)
    connection = raw(url, b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
    status, error = answered(connection)
    assert (status, error["error"]["code"]) == (408, "body_too_slow")
    assert "within 0.2 s" in error["error"]["message"]


def test_a_body_that_comes_slowly_is_waited_for(url):
    body = b'{"prompt": "x", "temperature": 0}'
    connection = raw(url, as_request(body)[: -len(body)])
    for i in range(0, len(body), 4):
        connection.sendall(body[i : i + 4])
        time.sleep(0.02)
    status, answer = answered(connection)
    assert (status, answer["choices"][0]["text"]) == (200, "Hello")


def test_garbage_ends_its_own_connection_alone(url):
    for payload in (
        b"\x00\x01\x02\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    ):
        connection = raw(url, payload)
        status, error = answered(connection)
        assert (status, error["error"]["code"]) == (400, "invalid_http")
    assert posted(url, '{"prompt": "x"}').json()["choices"][0]["text"] == "Hello"


def test_a_full_queue_is_said_so(serve_script):
    url = serve_script(b"a" * 500, seconds=0.02, slots=1, queue=1)
    body = {"prompt": "x", "max_tokens": 400, "stream": True}
    with httpx.Client(base_url=url, timeout=30) as client:
        with client.stream("POST", "/v1/completions", json=body):
            eventually(lambda: running(url) == 1)
            with client.stream("POST", "/v1/completions", json=body):
                eventually(lambda: running(url) == 2)
                refused = client.post("/v1/completions", json=body)
                assert_error(refused, 429, "rate_limit_error")
                assert refused.headers["Retry-After"] == "1"
        eventually(lambda: running(url) == 0)
        assert client.post("/v1/completions", json={"prompt": "x", "max_tokens": 1}).status_code == 200


def test_a_client_that_leaves_frees_its_slot(serve_script):
    url = serve_script(b"a" * 900, seconds=0.02, slots=1)
    body = json.dumps({"prompt": "x", "max_tokens": 900, "stream": False}).encode()
    for streams in (b"false", b"true"):
        text = body.replace(b"false", streams)
        connection = raw(url, as_request(text))
        eventually(lambda: running(url) == 1)
        connection.close()
        written = counted(url, "generated_tokens_total")
        eventually(lambda: running(url) == 0)
        # A token or two is all that it takes; the rest is for a busy machine.
        assert counted(url, "generated_tokens_total") - written <= 20


def test_a_client_that_leaves_is_counted_as_gone(serve_script):
    url = serve_script(b"a" * 900, seconds=0.02)
    raw(url, as_request(b'{"prompt": "x", "max_tokens": 900}')).close()
    gone = 'shortlist_requests_total{endpoint="/v1/completions",status="499"} 1.0'
    eventually(lambda: gone in httpx.get(url + "/metrics").text.splitlines())


def test_work_in_pieces_waits_in_a_queue_too(serve_script, monkeypatch):
    def hidden_pieces(self, tokens):
        for _ in range(100):
            time.sleep(0.02)
            yield np.zeros((1, 16), np.float32)

    monkeypatch.setattr("shortlist.engine.model.Model.hidden_pieces", hidden_pieces)
    url = serve_script(b"x", queue=2)
    body = b'{"input": "x"}'
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    waiting = [raw(url, head + body) for _ in range(2)]
    time.sleep(0.3)
    refused = posted(url, body, "/v1/embeddings")
    assert_error(refused, 429, "rate_limit_error")
    assert refused.headers["Retry-After"] == "1"
    for each in waiting:
        each.close()
    # Those that left make room.
    eventually(lambda: posted(url, b'{"input": []}', "/v1/embeddings").status_code == 400)
    monkeypatch.undo()


def test_a_request_ends_when_its_time_is_up(serve_script):
    url = serve_script(b"a" * 900, seconds=0.02, timeout=0.3)
    body = {"prompt": "x", "max_tokens": 900}
    assert_error(httpx.post(url + "/v1/completions", json=body), 504, "timeout_error")
    with httpx.stream("POST", url + "/v1/completions", json={**body, "stream": True}) as response:
        last = [line for line in response.iter_lines() if line][-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "timeout"
    eventually(lambda: running(url) == 0)


def test_a_slow_reader_blocks_nobody(serve_script):
    url = serve_script(b"a" * 1500, context_length=2000, slots=1)
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(30)
        connection.connect((host, int(port)))
        connection.sendall(
            as_request(b'{"prompt": "x", "max_tokens": 1500, "temperature": 0, "stream": true}')
        )
        eventually(lambda: counted(url, "generated_tokens_total") == 1500)  # nothing was read of it yet
        answer = httpx.post(url + "/v1/completions", json={"prompt": "x", "max_tokens": 5}, timeout=60)
        assert answer.json()["choices"][0]["text"] == "aaaaa"
        received = b""
        while b"[DONE]" not in received:
            received += connection.recv(1 << 16)
    assert received.count(b'"text": "a"') == 1500


def test_a_server_that_stops_ends_its_requests():
    ended = []

    def read(url):
        with httpx.stream(
            "POST", url + "/v1/completions", json={"prompt": "x", "max_tokens": 900, "stream": True}
        ) as response:
            try:
                ended.append([line for line in response.iter_lines() if line][-1])
            except httpx.HTTPError as error:
                ended.append(error)

    with serving(fake_model(b"a" * 900, seconds=0.05)) as url:
        reader = threading.Thread(target=read, args=(url,))
        reader.start()
        eventually(lambda: running(url) == 1)
    reader.join(20)
    assert not reader.is_alive()
    assert json.loads(ended[0].removeprefix("data: "))["error"]["code"] == "shutting_down"
    with pytest.raises(httpx.ConnectError):
        httpx.get(url + "/health")


def test_a_request_that_is_about_to_end_does_when_the_server_stops():
    texts = []
    with serving(fake_model(b"a" * 30, seconds=0.02)) as url:
        body = {"prompt": "x", "max_tokens": 30}
        reader = threading.Thread(
            target=lambda: texts.append(httpx.post(url + "/v1/completions", json=body).json())
        )
        reader.start()
        eventually(lambda: running(url) == 1)
    reader.join(20)
    assert texts[0]["choices"][0]["text"] == "a" * 30


def test_api_keys(serve_script):
    url = serve_script(b"Hello", api_keys=("one", "ключ"))
    body = {"prompt": "x"}

    def status(headers):
        return httpx.post(url + "/v1/completions", json=body, headers=headers).status_code

    assert status({"Authorization": "Bearer one"}) == 200
    assert status({"Authorization": "bearer ключ".encode()}) == 200
    for wrong in ("", "one", "Bearer", "Bearer two", "Bearer on", "Bearer onee", "Basic one"):
        assert status({"Authorization": wrong} if wrong else {}) == 401
    refused = httpx.get(url + "/v1/models")
    error = assert_error(refused, 401, "authentication_error")
    assert error["code"] == "invalid_api_key"
    assert error["message"].startswith("You didn't provide an API key")
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    wrong = httpx.get(url + "/v1/models", headers={"Authorization": "Bearer two"})
    assert assert_error(wrong, 401, "authentication_error")["message"].startswith(
        "Incorrect API key provided"
    )


OPEN = {"/", "/health", "/page/{file}"}


def test_every_path_but_the_open_ones_asks_for_a_key(serve_script):
    model = fake_model(b"Hello")
    app = create_app(model, ServerSettings(name="tiny"))
    model.close()
    paths = set(app.openapi()["paths"]) | {route.path for route in app.routes if hasattr(route, "path")}
    paths = {"/page/{file}" if path == "/page" else path for path in paths}
    assert paths > OPEN
    assert {"/v1/completions", "/metrics", "/tokenize", "/openapi.json"} < paths
    url = serve_script(b"Hello", api_keys=("one",))
    with httpx.Client(base_url=url, timeout=30) as client:
        for path in paths:
            place = path.replace("{name}", "tiny").replace("{file}", "app.js")
            got = {client.request(method, place).status_code for method in ("GET", "POST", "HEAD", "OPTIONS")}
            assert (got == {401}) == (path not in OPEN), place
            assert (200 in got) == (path in OPEN), place
        assert client.get("/healthy").status_code == 401
        assert client.get("/page").status_code == 401


def test_pages_of_other_origins_are_let_in_only_where_named(serve_script):
    origin = {"Origin": "https://a.example"}
    closed, open_ = serve_script(b"x"), serve_script(b"x", cors=("https://a.example",), api_keys=("k",))
    assert "access-control-allow-origin" not in httpx.get(closed + "/health", headers=origin).headers
    assert (
        httpx.get(open_ + "/health", headers=origin).headers["access-control-allow-origin"]
        == origin["Origin"]
    )
    asked = {
        **origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    asked_for = httpx.options(open_ + "/v1/completions", headers=asked)
    assert asked_for.status_code == 200
    assert asked_for.headers["access-control-allow-origin"] == origin["Origin"]
    assert "POST" in asked_for.headers["access-control-allow-methods"]
    assert "authorization" in asked_for.headers["access-control-allow-headers"].lower()
    private = httpx.options(
        open_ + "/health", headers={**asked, "Access-Control-Request-Private-Network": "true"}
    )
    assert private.headers["access-control-allow-private-network"] == "true"
    for answer in (
        httpx.get(open_ + "/nowhere", headers=origin),
        httpx.post(open_ + "/v1/completions", headers={**origin, "Authorization": "Bearer k"}, content=b"{"),
    ):
        assert answer.status_code in (401, 415)
        assert answer.headers["access-control-allow-origin"] == origin["Origin"]
        assert "x-request-id" in answer.headers["access-control-expose-headers"].lower()
    other = httpx.get(open_ + "/health", headers={"Origin": "https://b.example"}).headers
    assert "access-control-allow-origin" not in other


def test_a_method_that_asks_for_no_answer(url):
    head, get = httpx.head(url + "/health"), httpx.get(url + "/health")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(get.content))
    assert httpx.head(url + "/v1/completions").status_code == 405
    assert httpx.head(url + "/nowhere").status_code == 404
    options = httpx.options(url + "/v1/completions")
    assert (options.status_code, options.headers["Allow"]) == (204, "OPTIONS, POST")
    assert httpx.options(url + "/nowhere").status_code == 404


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "text/plain", None, "application/json; x=y"]
)
def test_a_body_is_json_whatever_it_is_called_unless_a_page_sends_it(url, kind):
    headers = {} if kind is None else {"Content-Type": kind}
    body = b'{"prompt": "x", "temperature": 0}'

    def post(**more):
        return httpx.post(url + "/v1/completions", content=body, headers={**headers, **more}, timeout=30)

    assert post().json()["choices"][0]["text"] == "Hello"
    page = post(Origin="https://a.example")
    if kind == "application/json; x=y":
        assert page.status_code == 200
    else:
        assert_error(page, 415)


def test_every_answer_has_an_id(url):
    ids = {httpx.get(url + path).headers["x-request-id"] for path in ("/health", "/health", "/nowhere")}
    assert len(ids) == 3
    for given, kept in (("mine-1.2:3_4", True), ("x" * 128, True), ("x" * 129, False), ("a b", False)):
        answer = httpx.get(url + "/health", headers={"X-Request-Id": given}).headers["x-request-id"]
        assert (answer == given) is kept


def test_no_message_names_a_path_or_an_option(url, serve_script, monkeypatch):
    body = {"messages": [{"role": "user", "content": "x"}]}
    monkeypatch.setattr("engine.fakes.ByteTokenizer.encode_chat", refuse)
    error = assert_error(httpx.post(url + "/v1/chat/completions", json=body), 400)
    assert error["message"] == "the chat template of tiny refuses these messages"
    monkeypatch.setattr("engine.fakes.ByteTokenizer.chat_template", None)
    error = assert_error(httpx.post(url + "/v1/chat/completions", json=body), 400)
    assert (error["code"], error["param"]) == ("no_chat_template", "messages")
    monkeypatch.setattr("shortlist.server.service.Service.check_body", break_)
    error = assert_error(httpx.post(url + "/v1/completions", json={"prompt": "x"}), 500, "server_error")
    assert error["message"] == "the weights of tiny are broken"


def refuse(self, *arguments, **options):
    raise UsageError(f"the chat template of {self.name} refuses these messages")


def break_(self, body):
    raise CheckpointError(f"the weights of {self.model.tokenizer.name} are broken")


def test_a_line_of_the_log_names_route_and_model(serve_script, caplog):
    caplog.set_level(logging.INFO, logger="shortlist")
    url = serve_script(b"answer")
    asked = {"model": "tiny", "prompt": "x"}
    identity = httpx.post(url + "/v1/completions", json=asked).headers["x-request-id"]
    eventually(lambda: caplog.records)
    line = caplog.records[-1].getMessage()
    assert re.fullmatch(rf"POST /v1/completions 200 \d\.\d{{3}} s tiny {identity}", line)


def test_texts_stand_in_the_log_only_where_that_is_wanted(serve_script, caplog):
    caplog.set_level(logging.DEBUG, logger="shortlist")

    def ask(url):
        httpx.post(url + "/v1/completions", json={"prompt": SECRET})
        httpx.post(url + "/v1/completions", json={"prompt": SECRET, "stream": True})
        httpx.post(url + "/v1/completions", json={"prompt": SECRET, "stop": 5})
        httpx.post(url + "/v1/completions", json={"prompt": SECRET * 100})
        httpx.post(url + "/v1/chat/completions", json={"messages": [{"role": "user", "content": SECRET}]})
        httpx.get(url + f"/{SECRET}")

    ask(serve_script(b"purple answer"))
    eventually(lambda: len(caplog.records) >= 6)
    assert not any(
        SECRET in record.getMessage() or "purple" in record.getMessage() for record in caplog.records
    )
    ask(serve_script(b"purple answer", log_prompts=True))
    logged = " ".join(record.getMessage() for record in caplog.records)
    assert SECRET in logged
    assert "purple answer" in logged


def test_a_defect_is_an_error_without_details(serve_script, caplog, monkeypatch):
    url = serve_script(b"Hello")
    monkeypatch.setattr("shortlist.server.status._described", lambda service: 1 / 0)
    error = assert_error(httpx.get(url + "/v1/models"), 500, "server_error")
    assert "ZeroDivision" not in error["message"]
    assert any(record.exc_info for record in caplog.records)


def test_the_parts_of_a_request_add_up_to_its_time(serve_script):
    """Within 2 % of what the client sees, in the best of some tries: other processes can always delay one."""
    url = serve_script(b"a" * 60, seconds=0.02)
    deviation = 1.0
    with httpx.Client(base_url=url, timeout=30) as client:
        client.get("/health")  # connects
        for _ in range(6):
            started = time.perf_counter()
            usage = client.post("/v1/completions", json={"prompt": "x", "max_tokens": 60}).json()["usage"]
            seconds = time.perf_counter() - started
            parts = usage["shortlist"]["timings"]
            assert set(parts) == {"queue", "tokenize", "prefill", "decode", "sampling", "transport"}
            assert min(parts.values()) >= 0
            deviation = abs(sum(parts.values()) / seconds - 1)
            if deviation < 0.02:
                return
    pytest.fail(f"the parts are {deviation:.1%} off the time that the client saw")


def test_a_small_answer_does_not_wait_for_an_acknowledgement(url):
    """With Nagle's algorithm, the body would come 40 ms after the headers: each waits for the one before."""
    with httpx.Client(base_url=url, timeout=30) as client:
        times = []
        for _ in range(20):
            started = time.perf_counter()
            client.get("/health")
            times.append(time.perf_counter() - started)
    assert min(times) < 0.03
