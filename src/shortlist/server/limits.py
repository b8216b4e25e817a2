"""Middleware before the endpoints: sizes and types of bodies, API keys, methods, times and the log."""

import asyncio
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shortlist.server.errors import ApiError, error_response
from shortlist.server.service import Service

log = logging.getLogger("shortlist.server")

BODY_SECONDS = 60.0
"""Seconds within which a body must have arrived."""

OPEN = ("/", "/health")
"""Paths that need no API key, beside the files of the page."""

PAGE = "/page/"

REQUEST_ID = re.compile(rb"[\w.:-]{1,128}")
"""Pattern of accepted request ids from clients; others are replaced, because ids go into the log."""


class RequestClock:
    """Records the arrival of a request, gives it an id, and counts and logs it at its end."""

    def __init__(self, app: ASGIApp, service: Callable[[], Service]):
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        arrived = time.perf_counter()
        scope.setdefault("state", {})["arrived"] = arrived
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        name = given if REQUEST_ID.fullmatch(given) else b"req-" + secrets.token_hex(12).encode()
        status = 499  # the usual code in logs: the client left before the answer

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", name)]}
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            seconds = time.perf_counter() - arrived
            service = self._service()
            # Unknown paths are not logged: the client chooses them, and they may be very long or hold a text.
            route = getattr(scope.get("route"), "path", "unknown")
            service.metrics.count_request(route, status)
            model = service.settings.name
            log.info("%s %s %d %.3f s %s %s", scope["method"], route, status, seconds, model, name.decode())


class ApiKeys:
    """Refuses requests without a valid key. The comparison takes the same time for every wrong key."""

    def __init__(self, app: ASGIApp, keys: tuple[str, ...]):
        self._app = app
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(scope["path"]) or self._known(scope):
            return await self._app(scope, receive, send)
        # OpenAI's wording, which its clients look for.
        sent = b"authorization" in dict(scope["headers"])
        problem = "Incorrect API key provided" if sent else "You didn't provide an API key"
        error = ApiError(401, f"{problem}: send Authorization: Bearer KEY", code="invalid_api_key")
        await error_response(error)(scope, receive, send)

    def _known(self, scope: Scope) -> bool:
        header = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, given = header.partition(b" ")
        # Every key is compared, so that the time reveals nothing about the keys.
        found = [hmac.compare_digest(given.strip(), key) for key in self._keys]
        return scheme.lower() == b"bearer" and any(found)


def is_open(path: str) -> bool:
    """Whether a path needs no API key: health checks and the page need none; all other paths do."""
    return path in OPEN or path.startswith(PAGE)


class Methods:
    """Answers HEAD as GET without a body, and OPTIONS with the methods that a path takes."""

    def __init__(self, app: ASGIApp, methods: Callable[[str], list[str]]):
        self._app, self._methods = app, methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope.get("method")
        if method == "HEAD":
            scope = {**scope, "method": "GET"}  # uvicorn knows the real method, and omits the body
        elif method == "OPTIONS" and (taken := self._methods(scope["path"])):
            return await Response(status_code=204, headers={"Allow": ", ".join(taken)})(scope, receive, send)
        await self._app(scope, receive, send)


class JsonBodies:
    """Treats a body as JSON whatever its content type, as curl sends it, unless a web page sends it.

    Browsers let pages of other origins send some content types freely, but JSON only where the server permits
    it.
    """

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        if scope.get("method") == "POST" and b"json" not in headers.get(b"content-type", b""):
            if b"origin" in headers:
                error = ApiError(415, "a page must send Content-Type: application/json", code="not_json")
                return await error_response(error)(scope, receive, send)
            kept = [each for each in scope["headers"] if each[0] != b"content-type"]
            scope = {**scope, "headers": [*kept, (b"content-type", b"application/json")]}
        await self._app(scope, receive, send)


class BodyLimit:
    """Reads the body of a request, up to a limit, before anything else uses it."""

    def __init__(self, app: ASGIApp, most: int):
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await self._read(scope, receive)
        except TimeoutError:
            message = f"the body did not arrive within {BODY_SECONDS:g} s"
            error = ApiError(408, message, code="body_too_slow")
            return await error_response(error)(scope, receive, send)
        except ApiError as error:
            return await error_response(error)(scope, receive, send)
        if body is None:
            return  # the client left
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await self._app(scope, replay, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        length = dict(scope["headers"]).get(b"content-length", b"0")
        self._check(int(length) if length.isdigit() and len(length) < 20 else self._most + 1)
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            self._check(len(body))
            if not message.get("more_body", False):
                return bytes(body)

    def _check(self, length: int) -> None:
        if length > self._most:
            raise ApiError(413, f"the body is larger than {self._most} bytes", code="body_too_large")
