"""Sends answers token by token, as server-sent events."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from shortlist.engine.events import PromptEvent, TokenEvent
from shortlist.server.errors import as_api_error
from shortlist.server.service import Answer

T = TypeVar("T")

DONE = b"data: [DONE]\n\n"

STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
"""OpenAPI description of endpoints that can stream."""

PATIENCE = 5.0
"""Seconds that a client has to read the last event after its time is up."""


def event(content: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(content).encode() + b"\n\n"


async def merged(answers: Sequence[Answer]) -> AsyncIterator[tuple[int, PromptEvent | TokenEvent | None]]:
    """Merge the events of several answers; each comes with the index of its answer, and None at its end."""
    queue: asyncio.Queue[tuple[int, PromptEvent | TokenEvent | None] | BaseException] = asyncio.Queue()

    async def forward(index: int, answer: Answer) -> None:
        try:
            async for token in answer:
                queue.put_nowait((index, token))
            queue.put_nowait((index, None))
        except Exception as error:
            queue.put_nowait(error)

    tasks = [asyncio.create_task(forward(index, answer)) for index, answer in enumerate(answers)]
    try:
        left = len(tasks)
        while left:
            item = await queue.get()
            if isinstance(item, BaseException):
                raise item
            left -= item[1] is None
            yield item
    finally:
        for task in tasks:
            task.cancel()


async def unless_disconnected(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """Run work until it ends or the client leaves, which cancels it; returns its result or None."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def while_connected(request: Request, work: Coroutine[Any, Any, Response], seconds: float) -> Response:
    """Run work that makes a response, within a time limit; if the client leaves, the response is empty.

    Raises
    ------
    TimeoutError
    """
    async with asyncio.timeout(seconds):
        response = await unless_disconnected(request.receive, work)
    return Response(status_code=499) if response is None else response


class EventStream(Response):
    """A response that sends events as they arrive, and ends the work when the client leaves or time is up.

    Events for a slow client wait here, so that the engine does not wait.

    Parameters
    ----------
    events
    work
        Closed at the end, in whatever way that comes.
    seconds
        Time within which everything must be sent.
    public
        Removes from an error's message the details that clients must not see.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[bytes],
        work: contextlib.AsyncExitStack,
        seconds: float,
        public: Callable[[str], str],
    ):
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events, self._work, self._seconds, self._public = events, work, seconds, public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await unless_disconnected(receive, self._send(send))
        finally:
            await self._events.aclose()
            await self._work.aclose()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        last = b""
        try:
            async with asyncio.timeout(self._seconds):
                async for chunk in self._events:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except Exception as error:  # the status is sent already, so the stream must carry the error
            last = event(as_api_error(error, self._public).body)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await send({"type": "http.response.body", "body": last, "more_body": False})


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
