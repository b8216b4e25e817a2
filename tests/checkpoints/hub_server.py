"""A stand-in for the Hugging Face Hub: as much of its HTTP interface as fetching a model needs."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"

Repositories = dict[str, dict[str, bytes]]
"""Files by name, by repository."""


@contextmanager
def hub_server(repositories: Repositories) -> Iterator[str]:
    """Serve the repositories on this machine; gives the address.

    `owner/gated` is gated, `owner/broken` only answers errors, and what `owner/cut` sends ends halfway.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0].strip("/")
            if "owner/gated" in path:
                self.answer(403, b"", {"X-Error-Code": "GatedRepo"})
            elif "owner/broken" in path:
                self.answer(500, b"")
            elif path.startswith("api/models/"):
                self.model(path.removeprefix("api/models/"))
            else:
                repository, _, file = path.partition(
                    "/resolve/main/" if "/resolve/main/" in path else f"/resolve/{COMMIT}/"
                )
                self.file(repository, file)

        def model(self, path: str) -> None:
            repository = "/".join(path.split("/")[:2])
            if repository not in repositories:
                return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            files = repositories[repository]
            if "/tree/" in path:
                listing = [
                    {"type": "file", "path": name, "size": len(data), "oid": _etag(data)}
                    for name, data in files.items()
                ]
                return self.answer(200, json.dumps(listing).encode())
            info = {"id": repository, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
            self.answer(200, json.dumps(info).encode())

        def file(self, repository: str, name: str) -> None:
            if repository not in repositories:
                return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            if name not in repositories[repository]:
                return self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            data = repositories[repository][name]
            self.answer(200, data, {"ETag": f'"{_etag(data)}"', "X-Repo-Commit": COMMIT})

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.send_header("Connection", "close")  # or a client may ask once more
            self.end_headers()
            self.close_connection = True
            if self.command == "GET":
                self.wfile.write(body[: len(body) // 2] if "owner/cut/resolve" in self.path else body)

        def log_message(self, *_: object) -> None:
            """Say nothing: the test's output is the tests'."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
