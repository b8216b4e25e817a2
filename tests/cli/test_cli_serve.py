"""`shortlist serve` as a user meets it: its first line, its ends, its mistakes."""

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

FAKE = Path(__file__).with_name("fake_shortlist.py")


@contextlib.contextmanager
def start(*arguments, **environment):
    with subprocess.Popen(
        [sys.executable, str(FAKE), "serve", *arguments, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ) as server:
        try:
            yield server
        finally:
            server.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_it_says_where_it_listens_and_ends_when_told(number, code):
    with start("hello", "--name", "greeter", "--audit", "2") as server:
        first = server.stdout.readline()
        url = first.split()[0]
        assert url.startswith("http://127.0.0.1:")
        assert "greeter (fake)" in first
        assert "exact head, no recipe" in first
        assert "threads" in first
        assert "MB" in first
        answer = httpx.post(url + "/v1/completions", json={"prompt": "x", "model": "greeter"}).json()
        assert answer["choices"][0]["text"] == "hello"
        server.send_signal(number)
        assert server.wait(20) == code
        errors = server.stderr.read()
    assert "Traceback" not in errors


def test_keys_come_from_the_command_line_a_file_and_the_environment(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("from-file\n\n")
    with start(
        "hello", "--api-key", "typed", "--api-key-file", str(keys), SHORTLIST_API_KEYS="from-variable"
    ) as server:
        url = server.stdout.readline().split()[0]
        for key, status in (
            ("typed", 200),
            ("from-file", 200),
            ("from-variable", 200),
            ("no", 401),
        ):
            headers = {"Authorization": f"Bearer {key}"}
            assert httpx.get(url + "/v1/models", headers=headers).status_code == status


def test_a_port_in_use_is_one_line(shortlist):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = shortlist("serve", "hello", "--port", port)
    assert result.code == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "256.0.0.1"], "cannot listen on 256.0.0.1"),
        (["--timeout", "0"], "--timeout must be above 0"),
        (["--api-key", ""], "an API key is empty"),
        (["--api-key-file", "/nowhere/keys"], "/nowhere/keys cannot be read"),
        (["--slots", "0"], "--slots"),
        (["--port", "99999"], "--port"),
    ],
)
def test_mistakes_are_one_line(shortlist, arguments, message):
    result = shortlist("serve", "hello", *arguments)
    assert result.code == 2
    assert message in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn", "prometheus_client", "llguidance"])
def test_without_the_extra_it_says_what_to_install(shortlist, monkeypatch, missing):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "shortlist.cli.extras.find_spec", lambda name: None if name == missing else real(name)
    )
    result = shortlist("serve", "hello")
    assert result.code == 1
    assert result.err == (
        f"shortlist: serving needs {missing}, which is not installed: pip install 'shortlist[serve]'\n"
    )


@pytest.mark.parametrize(
    ("head", "options", "message"),
    [
        ("exact", ["--max-prompt", "60001"], "--max-prompt does nothing above the context of 60000 tokens"),
        ("dense", ["--audit", "2"], "--audit does nothing where the head is dense"),
        ("exact", ["--max-prompt", "60000", "--audit", "2"], None),
        ("dense", [], None),
    ],
)
def test_options_that_do_nothing_are_refused(shortlist, monkeypatch, head, options, message):
    listened = []
    monkeypatch.setattr("shortlist.server.listen.listen", lambda *_args, **_options: listened.append(True))
    monkeypatch.setattr("engine.fakes.FakeHead.name", head)
    result = shortlist("serve", "hello", "--port", "0", *options)
    assert (result.code, bool(listened)) == ((0, True) if message is None else (2, False))
    assert message is None or message in result.err
