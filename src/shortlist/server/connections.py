"""Limits the number of connections, and the time in which a client must send a request."""

import asyncio
import json

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from shortlist.server.errors import RETRY_SECONDS, ApiError

HEAD_SECONDS = 30.0
"""Seconds for the headers of a request, from the start of the connection or from their first byte."""

LEFTOVER_SECONDS = 10.0
"""Seconds for the rest of a request that was answered before it was complete; then the connection ends."""


class Connection(H11Protocol):
    """A connection that ends if its client does not send a request in time.

    uvicorn limits neither the time for a request's headers nor the number of connections without a request.
    Bodies are limited by `limits.BodyLimit`, idle connections by uvicorn.

    Attributes
    ----------
    most : int
        Largest number of open connections; `limited` sets it.
    """

    most: int
    _timer: asyncio.TimerHandle | None = None
    _waits_for: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._refuse(503, "the server has too many connections: try again later", "too_many_connections")
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Send an error in OpenAI's format; if an answer has begun, only close the connection."""
        self._refuse(400, "the request is not valid HTTP", "invalid_http")

    def _watch(self) -> None:
        """Start the time limit of the part of a request that the connection now waits for."""
        waits_for = None if self.transport.is_closing() else self._missing()
        if waits_for == self._waits_for:
            return
        self._stop_watching()
        self._waits_for = waits_for
        if waits_for is not None:
            seconds = HEAD_SECONDS if waits_for == "head" else LEFTOVER_SECONDS
            self._timer = self.loop.call_later(seconds, self._give_up)

    def _missing(self) -> str | None:
        """The part of a request that is incomplete; a new connection waits for headers."""
        if self.conn.their_state is h11.IDLE:
            begun = self.cycle is None or self.conn.trailing_data[0]
            return "head" if begun else None
        return "rest" if self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY else None

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._waits_for = None

    def _give_up(self) -> None:
        if self._waits_for == "head" and self.conn.trailing_data[0]:
            self._refuse(408, f"the head did not arrive within {HEAD_SECONDS:g} s", "head_too_slow")
        else:
            self.transport.close()

    def _refuse(self, status: int, message: str, code: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps(ApiError(status, message, code=code).body).encode()
            head = f"HTTP/1.1 {status} \r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            retry = f"Retry-After: {RETRY_SECONDS}\r\n" if status == 503 else ""
            self.transport.write(f"{head}{retry}Connection: close\r\n\r\n".encode() + body)
        self.transport.close()


def limited(most: int) -> type[Connection]:
    """The `Connection` class for a server with this largest number of open connections."""
    return type("LimitedConnection", (Connection,), {"most": most})
