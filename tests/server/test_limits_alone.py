"""The layers before the endpoints one by one, around an application that says what reached it."""

import asyncio
import json
import re
from types import SimpleNamespace
from typing import Any

import pytest

from shortlist.server.limits import ApiKeys, BodyLimit, JsonBodies, Methods, RequestClock, is_open


class Inside:
    """The application: notes what reaches it, and answers with a status."""

    def __init__(self, status=200, route=None):
        self.scopes, self.bodies = [], []
        self.status, self.route = status, route

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        if scope["type"] != "http":
            return
        self.bodies.append((await receive())["body"])
        if self.route:
            scope["route"] = SimpleNamespace(path=self.route)
        if self.status:
            await send({"type": "http.response.start", "status": self.status, "headers": [(b"a", b"b")]})
            await send({"type": "http.response.body", "body": b"done"})

    @property
    def headers(self):
        return self.scopes[0]["headers"]


def http(path="/v1/completions", method="POST", **headers):
    pairs = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
    return {"type": "http", "path": path, "method": method, "headers": pairs}


def ask(layer, scope, *pieces) -> Any:
    """The response: status, headers and body; empty where none is sent."""
    waiting = [
        {"type": "http.request", "body": piece, "more_body": place < len(pieces) - 1}
        for place, piece in enumerate(pieces or (b"",))
    ]
    sent = []

    async def receive():
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    asyncio.run(layer(scope, receive, send))
    if not sent:
        return None
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], dict(sent[0]["headers"]), body


def code(answer):
    return answer[0], json.loads(answer[2])["error"]["code"]


LAYERS = [
    lambda app: RequestClock(app, lambda: pytest.fail("it is no request")),
    lambda app: ApiKeys(app, ("one",)),
    lambda app: Methods(app, lambda path: []),
    lambda app: JsonBodies(app),
    lambda app: BodyLimit(app, 1),
]


@pytest.mark.parametrize("layer", LAYERS, ids=["clock", "keys", "methods", "types", "bodies"])
def test_what_is_no_request_passes(layer):
    inside, scope = Inside(), {"type": "lifespan"}
    assert ask(layer(inside), scope) is None
    assert inside.scopes == [{"type": "lifespan"}]


# ---- the clock ------------------------------------------------------------------------------------------


def clock(inside):
    """The counts, and the layer."""
    counted = []
    metrics = SimpleNamespace(count_request=lambda *arguments: counted.append(arguments))
    service = SimpleNamespace(metrics=metrics, settings=SimpleNamespace(name="tiny"))
    return counted, RequestClock(inside, lambda: service)


def test_a_request_is_counted_by_route_and_status():
    counted, layer = clock(Inside(201, "/v1/x"))
    status, headers, body = ask(layer, http("/anything"))
    assert (status, headers[b"a"], body) == (201, b"b", b"done")
    assert counted == [("/v1/x", 201)]


def test_a_path_that_is_not_known_is_not_counted_by_its_name():
    counted, layer = clock(Inside(404))
    ask(layer, http("/secret"))
    assert counted == [("unknown", 404)]


def test_a_client_that_left_before_an_answer_is_counted_as_gone():
    counted, layer = clock(Inside(None, "/v1/x"))
    assert ask(layer, http()) is None
    assert counted == [("/v1/x", 499)]


def test_a_request_that_fails_is_counted_too():
    counted, layer = clock(None)

    async def broken(scope, receive, send):
        raise ValueError("ours")

    layer._app = broken
    with pytest.raises(ValueError, match="ours"):
        ask(layer, http())
    assert counted == [("unknown", 499)]


def test_a_request_knows_when_it_came(monkeypatch):
    ticks = iter([5.0, 6.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    inside = Inside()
    ask(clock(inside)[1], http())
    assert inside.scopes[0]["state"]["arrived"] == 5.0


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (b"a-1.2:3_4", True),
        (b"x" * 128, True),
        (b"x" * 129, False),
        (b"", False),
        (b"a b", False),
        (b"a\x1b[31m", False),
    ],
)
def test_an_id_of_the_client_is_kept_where_a_log_may_hold_it(given, kept):
    _, headers, _ = ask(clock(Inside())[1], http(x_request_id=given))
    assert (headers[b"x-request-id"] == given) is kept
    assert kept or re.fullmatch(rb"req-[0-9a-f]{24}", headers[b"x-request-id"])


# ---- keys -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "enters"),
    [
        (b"Bearer one", True),
        (b"bearer two", True),
        (b"Bearer  one ", True),
        (b"Bearer three", False),
        (b"Bearer on", False),
        (b"Bearer ", False),
        (b"Bearer", False),
        (b"Basic one", False),
        (b"one", False),
    ],
)
def test_a_key_lets_in(header, enters):
    inside = Inside()
    answer = ask(ApiKeys(inside, ("one", "two")), http(authorization=header))
    assert bool(inside.scopes) is enters
    if not enters:
        assert code(answer) == (401, "invalid_api_key")
        assert b"Incorrect API key provided" in answer[2]


def test_who_sends_no_key_is_told_so():
    answer = ask(ApiKeys(Inside(), ("one",)), http())
    assert code(answer) == (401, "invalid_api_key")
    assert b"You didn't provide an API key" in answer[2]


def test_every_key_is_compared(monkeypatch):
    compared = []
    monkeypatch.setattr("hmac.compare_digest", lambda given, key: compared.append(key) or True)
    ask(ApiKeys(Inside(), ("one", "two", "three")), http(authorization=b"Bearer x"))
    assert compared == [b"one", b"two", b"three"]


@pytest.mark.parametrize(
    ("path", "opened"),
    [
        ("/", True),
        ("/health", True),
        ("/page/app.js", True),
        ("/page", False),
        ("/health/", False),
        ("/metrics", False),
        ("/v1/page/x", False),
        ("", False),
    ],
)
def test_what_needs_no_key(path, opened):
    assert is_open(path) is opened


# ---- methods --------------------------------------------------------------------------------------------


def test_heads_are_gets_and_options_are_told():
    for method, seen in (("HEAD", "GET"), ("GET", "GET"), ("POST", "POST")):
        inside = Inside()
        assert ask(Methods(inside, lambda path: ["GET"]), http("/x", method))[0] == 200
        assert inside.scopes[0]["method"] == seen
    inside, asked = Inside(), []
    layer = Methods(inside, lambda path: asked.append(path) or ["GET", "POST"])
    status, headers, body = ask(layer, http("/x", "OPTIONS"))
    assert (status, headers[b"allow"], body, asked) == (204, b"GET, POST", b"", ["/x"])
    assert not inside.scopes
    assert ask(Methods(inside, lambda path: []), http("/x", "OPTIONS"))[0] == 200  # of what is inside


# ---- types of bodies ------------------------------------------------------------------------------------


def test_a_body_is_json_whatever_it_is_called():
    for given in ({}, {"content_type": b"text/plain"}):
        inside = Inside()
        ask(JsonBodies(inside), http(x_other=b"1", **given))
        assert inside.headers == [(b"x-other", b"1"), (b"content-type", b"application/json")]


def test_what_is_json_already_or_no_body_stays():
    for scope in (http(content_type=b"application/json; a=b", origin=b"o"), http("/x", "GET", origin=b"o")):
        inside = Inside()
        ask(JsonBodies(inside), scope)
        assert inside.scopes == [scope]


@pytest.mark.parametrize("given", [{}, {"content_type": b"text/plain"}])
def test_a_page_must_say_that_it_sends_json(given):
    inside = Inside()
    assert code(ask(JsonBodies(inside), http(origin=b"https://a", **given))) == (415, "not_json")
    assert not inside.scopes


# ---- sizes of bodies ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "pieces", "passes"),
    [
        (b"10", [b"x" * 10], True),
        (b"10", [b"x" * 4, b"x" * 6], True),
        (b"11", [], False),
        (None, [b"x" * 10], True),
        (None, [b"x" * 5, b"x" * 5, b""], True),
        (None, [b"x" * 11], False),
        (None, [b"x" * 5, b"x" * 6], False),
        (b"3", [b"x" * 11], False),  # whatever it says
        (b"", [b"x"], False),
        (b"-1", [b"x"], False),
        (b"x", [b"x"], False),
        (b"0" * 19, [b"x"], True),
        (b"0" * 20, [b"x"], False),  # no number that anyone means
        (b"9" * 5000, [b"x"], False),
    ],
)
def test_a_body_of_the_most_bytes_passes(length, pieces, passes):
    inside = Inside()
    headers = {} if length is None else {"content_length": length}
    answer = ask(BodyLimit(inside, 10), http(**headers), *pieces)
    if passes:
        assert inside.bodies == [b"".join(pieces)]
        assert answer[0] == 200
    else:
        assert code(answer) == (413, "body_too_large")
        assert b"larger than 10 bytes" in answer[2]
        assert not inside.scopes


def test_a_client_that_leaves_before_its_body_came_reaches_nothing():
    inside = Inside()
    sent = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    asyncio.run(BodyLimit(inside, 10)(http(), receive, send))
    assert (sent, inside.scopes) == ([], [])


def test_after_the_body_the_application_hears_of_the_client_itself():
    heard = []

    async def inside(scope, receive, send):
        heard.extend([await receive(), await receive()])

    ask(BodyLimit(inside, 10), http(), b"ab", b"c")
    assert heard == [
        {"type": "http.request", "body": b"abc", "more_body": False},
        {"type": "http.disconnect"},
    ]


def test_a_body_that_does_not_come_in_time(monkeypatch):
    monkeypatch.setattr("shortlist.server.limits.BODY_SECONDS", 0.01)
    sent = []

    async def send(message):
        sent.append(message)

    async def go():
        await BodyLimit(Inside(), 10)(http(), asyncio.Event().wait, send)

    asyncio.run(go())
    assert (sent[0]["status"], json.loads(sent[1]["body"])["error"]["code"]) == (408, "body_too_slow")
