"""What stands before the endpoints: the size of bodies, API keys, the clock, the log line of each request."""

import asyncio
import hmac
import logging
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shortlist.server.errors import ApiError, error_response
from shortlist.server.service import Service

log = logging.getLogger("shortlist.server")

BODY_SECONDS = 60.0
"""A body must have arrived by then."""

PRIVATE = ("/v1/", "/tokenize", "/detokenize", "/metrics")
"""What an API key is asked for; health checks and the page itself need none."""


class RequestClock:
    """Notes when a request came, and at its end counts and logs it."""

    def __init__(self, app: ASGIApp, service: Callable[[], Service]):
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        arrived = time.perf_counter()
        scope.setdefault("state", {})["arrived"] = arrived
        status = 499  # as servers log it: the client left before there was an answer

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            seconds = time.perf_counter() - arrived
            route = getattr(
                scope.get("route"), "path", "unknown"
            )  # the path itself is the client's to choose
            self._service().metrics.count_request(route, status)
            log.info("%s %s %d %.3f s", scope["method"], route, status, seconds)


class ApiKeys:
    """Lets nobody in without a key; the comparison takes as long for every wrong one."""

    def __init__(self, app: ASGIApp, keys: tuple[str, ...]):
        self._app = app
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(PRIVATE) and not self._known(scope):
            error = ApiError(
                401, "a valid API key is needed: send Authorization: Bearer KEY", code="invalid_api_key"
            )
            return await error_response(error)(scope, receive, send)
        await self._app(scope, receive, send)

    def _known(self, scope: Scope) -> bool:
        header = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, given = header.partition(b" ")
        # Every key is compared, so that the time does not tell which one is close.
        found = [hmac.compare_digest(given.strip(), key) for key in self._keys]
        return scheme.lower() == b"bearer" and any(found)


class BodyLimit:
    """Reads the body of a request before anything else is done with it, up to a limit."""

    def __init__(self, app: ASGIApp, most: int):
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await self._read(scope, receive)
        except TimeoutError:
            error = ApiError(408, f"the body did not arrive within {BODY_SECONDS:.0f} s")
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
