"""Connections that say too little, too slowly, or are too many."""

import contextlib
import socket
import time

import httpx
import pytest
from server.test_limits import answered, as_request, eventually, posted, raw

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def url(serve_script, monkeypatch):
    monkeypatch.setattr("shortlist.server.connections.HEAD_SECONDS", 0.4)
    monkeypatch.setattr("shortlist.server.connections.LEFTOVER_SECONDS", 0.4)
    return serve_script(b"Hello", max_body=5_000, connections=3)


@pytest.fixture
def patient(serve_script):
    return serve_script(b"Hello", connections=3)


def ended(connection):
    """Whether the server has closed it, without a word."""
    with connection:
        return connection.recv(100) == b""


def is_cut_off(connection, piece):
    """Whether the server ends a connection on which something goes on and on."""
    with connection:
        for _ in range(200):
            try:
                connection.sendall(piece)
            except OSError:
                return True
            time.sleep(0.03)
    return False


@pytest.mark.parametrize("begun", [b"P", b"POST /v1/comp", HEAD, HEAD + b"Content-Length: 5\r\n"])
def test_a_head_that_does_not_end_is_given_up(url, begun):
    started = time.monotonic()
    status, error = answered(raw(url, begun))
    assert (status, error["error"]["code"]) == (408, "head_too_slow")
    assert error["error"]["message"] == "the head did not arrive within 0.4 s"
    assert time.monotonic() - started > 0.3


def test_a_head_that_trickles_is_given_up_all_the_same(url):
    assert is_cut_off(raw(url, HEAD), b"X: y\r\n")


def test_a_connection_that_says_nothing_is_closed(url):
    started = time.monotonic()
    assert ended(raw(url, b""))
    assert time.monotonic() - started > 0.3


def test_an_idle_connection_is_kept_but_its_next_head_has_a_time(url):
    with raw(url, b"") as connection:
        for wait in (0.0, 0.8):
            time.sleep(wait)
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 200 " in receive(connection)
        connection.sendall(b"GET /hea")
        assert b" 408 " in receive(connection)


def test_a_head_in_pieces_within_the_time_is_fine(patient):
    url = patient
    body = b'{"prompt": "x", "temperature": 0}'
    request = as_request(body)
    connection = raw(url, request[:10])
    time.sleep(0.1)
    connection.sendall(request[10:])
    assert answered(connection)[1]["choices"][0]["text"] == "Hello"


def test_the_time_of_the_head_does_not_count_for_the_answer(serve_script, monkeypatch):
    monkeypatch.setattr("shortlist.server.connections.HEAD_SECONDS", 0.2)
    url = serve_script(b"a" * 40, seconds=0.02)
    answer = posted(url, b'{"prompt": "x", "max_tokens": 40}')
    assert answer.json()["usage"]["completion_tokens"] == 40


def test_what_is_left_of_a_body_that_was_refused_is_not_taken_for_ever(url):
    assert is_cut_off(raw(url, HEAD + b"Content-Length: 999999\r\n\r\n"), b"x")


def test_a_connection_beyond_the_most_is_refused(patient):
    url = patient
    kept = [raw(url, b"GET /hea") for _ in range(2)]
    with httpx.Client(base_url=url) as client:  # the third, which is the last
        assert client.get("/health").status_code == 200
        refused = raw(url, b"")
        assert answered(refused)[0] == 503
        again = raw(url, b"")
        assert b"Retry-After: 1" in again.recv(1000)
        again.close()
        assert client.get("/health").status_code == 200
    for each in kept:
        each.close()
    eventually(lambda: is_served(url))


def is_served(url):
    try:
        return httpx.get(url + "/health").status_code == 200
    except httpx.HTTPError:
        return False


def receive(connection):
    """An answer, whose body ends with a brace."""
    received = b""
    while not received.endswith(b"}"):
        received += connection.recv(2000)
    return received


def test_a_chunk_that_is_no_chunk_ends_the_connection(url):
    connection = raw(url, HEAD + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n")
    status, error = answered(connection)
    assert (status, error["error"]["code"]) == (400, "invalid_http")
    assert is_served(url)


def test_a_connection_that_the_client_resets_is_forgotten(url):
    for _ in range(10):
        connection = raw(url, HEAD)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        connection.close()
    eventually(lambda: is_served(url))


def test_an_answer_that_is_out_is_not_followed_by_another(url):
    too_much = b"Transfer-Encoding: chunked\r\n\r\n1770\r\n" + b"x" * 6000 + b"\r\n"
    connection = raw(url, HEAD + too_much)
    answer = receive(connection)
    assert b" 413 " in answer
    assert answer.count(b"HTTP/1.1") == 1
    connection.sendall(b"nonsense\r\n")
    with connection, contextlib.suppress(ConnectionError):
        assert connection.recv(1000) == b""
