import socket

import pytest
from engine.fakes import fake_model

from shortlist.errors import UsageError
from shortlist.server.app import create_app
from shortlist.server.listen import PATIENCE, Server, bind, introduction
from shortlist.server.settings import ServerSettings


def test_an_address_in_use_is_named():
    with bind("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        bound.listen()
        with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1 port {port}"):
            bind("127.0.0.1", port)
    with bind("127.0.0.1", port) as again:  # at once, although connections may linger
        assert again.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        assert again.proto == socket.IPPROTO_TCP


def test_a_host_that_nobody_knows():
    with pytest.raises(UsageError, match=r"cannot listen on no\.such\.host\.invalid"):
        bind("no.such.host.invalid", 0)


@pytest.fixture
def settings():
    return ServerSettings(name="tiny", connections=7)


def test_the_first_line(settings):
    line = introduction(fake_model(b"x"), settings, "http://127.0.0.1:1")
    assert line.startswith("http://127.0.0.1:1  tiny (fake)  exact head, no recipe  ")
    assert " threads  " in line
    assert line.endswith(" MB")


def test_how_connections_are_treated(settings):
    model = fake_model(b"x")
    config = Server(create_app(model, settings), settings, drain_seconds=2.2).config
    assert config.http.most == 7
    assert config.timeout_keep_alive == 75
    assert config.timeout_graceful_shutdown == 3 + PATIENCE
    assert config.backlog == 2048
    assert not config.access_log
    assert not config.server_header
