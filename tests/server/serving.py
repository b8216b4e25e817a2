"""A server in a thread of this process, on a port of its own."""

import contextlib
import threading
import time

from shortlist.server.app import create_app
from shortlist.server.listen import Server, bind
from shortlist.server.settings import ServerSettings


@contextlib.contextmanager
def serving(model, **settings):
    """Serve a model under the name `tiny`; yields the URL."""
    settings = ServerSettings(**{"name": "tiny", **settings})
    server = Server(create_app(model, settings), settings, drain_seconds=1.5)
    with bind("127.0.0.1", 0) as socket:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            assert time.monotonic() < deadline, "the server did not start in time"
            time.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{socket.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive(), "the server did not stop"
