"""What the endpoints share: the engine, a thread for tokens, one answer while it is generated."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from shortlist.engine.batch import BatchEngine, Job, QueueFull
from shortlist.engine.events import DoneEvent, Event, FailedEvent, PromptEvent, Timings, TokenEvent
from shortlist.engine.growing import Generation
from shortlist.engine.options import GenerationOptions
from shortlist.server.errors import ApiError
from shortlist.server.metrics import Metrics
from shortlist.server.schemas import Open
from shortlist.server.settings import CHARACTERS_PER_TOKEN, ServerSettings

log = logging.getLogger("shortlist.server")

T = TypeVar("T")

MOST_NAMED = 1000
"""Unknown parameters that the log names, so that clients cannot fill it."""


class Answer:
    """One choice while it is generated: iterate over its tokens, and how far its prompt is read.

    Attributes
    ----------
    generation, timings
        Once the iteration has ended.
    submitted, ended : float
        On the clock of `time.perf_counter`.
    """

    job: Job
    generation: Generation
    timings: Timings

    def __init__(self, metrics: Metrics):
        self.submitted = self.ended = 0.0
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()  # at most one for each token that was asked for
        self._metrics = metrics
        self._latest: float | None = None

    def receive(self, event: Event) -> None:
        """Take an event of the engine, on its thread."""
        now = time.perf_counter()
        if isinstance(event, TokenEvent):
            first = self._latest is None
            since = self.submitted if self._latest is None else self._latest
            self._metrics.observe_token(now - since, first=first, agrees=event.chosen.agrees)
            self._latest = now
        elif not isinstance(event, PromptEvent):
            self.ended = now
        with contextlib.suppress(RuntimeError):  # the server is gone
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def __aiter__(self) -> AsyncIterator[TokenEvent | PromptEvent]:
        while True:
            match await self._events.get():
                case TokenEvent() | PromptEvent() as event:
                    yield event
                case DoneEvent(generation, timings):
                    self.generation, self.timings = generation, timings
                    if generation.finish_reason is None:
                        raise _shutting_down()
                    return
                case FailedEvent(error):
                    raise error


class Service:
    """An engine and what requests need to use it.

    Parameters
    ----------
    engine
    settings
    """

    def __init__(self, engine: BatchEngine, settings: ServerSettings):
        self.engine, self.settings = engine, settings
        self.model = engine.model
        self.metrics = Metrics(engine)
        self.created = int(time.time())
        self.closing = False
        self.max_prompt = min(settings.max_prompt or self.model.context, self.model.context)
        # One thread, so that cutting long texts into tokens takes at most one core from the decoder.
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="shortlist-tokenize")
        self._walk = asyncio.Semaphore(1)
        self._walks = 0
        self.fingerprint = f"shortlist-{self.model.decoder.fingerprint[:12]}"
        # The layers, and all rows of the head.
        self.dense_bytes = self.model.decoder.layer_bytes + self.model.decoder.head_rows.nbytes
        self._named: set[str] = set()
        self._answers: set[Answer] = set()  # that have not ended

    def check_body(self, body: Open) -> None:
        """Refuse another model, unknown parameters where the server is strict, and all while it shuts down.

        Raises
        ------
        ApiError
        """
        if self.closing:
            raise _shutting_down()
        if body.model is not None and body.model != self.settings.name:
            message = f"the model {body.model:.100} is not served here: ask for {self.settings.name}"
            raise ApiError(404, message, param="model", code="model_not_found")
        for name in body.model_extra or ():
            if self.settings.strict:
                raise ApiError(
                    400, f"the parameter {name:.100} is unknown", param=name[:100], code="unknown_parameter"
                )
            if name not in self._named and len(self._named) < MOST_NAMED:
                self._named.add(name)
                log.warning("the parameter %.100r is unknown and ignored", name)

    async def on_tokenizer(self, function: Callable[[], T]) -> T:
        """Run what cuts or joins texts off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, function)

    def encode(self, prompt: str | Sequence[int]) -> list[int]:
        """The tokens of a prompt, if it is not too long; not on the event loop.

        Raises
        ------
        ApiError
            It is too long.
        UsageError
            It cannot be used.
        """
        if isinstance(prompt, str) and len(prompt) > self.max_prompt * CHARACTERS_PER_TOKEN:
            self._too_long(f"{len(prompt)} characters")
        return self.checked(self.model.encode(prompt))

    def encode_text(self, text: str, *, add_special: bool) -> list[int]:
        """As `encode`, but a text may be empty, and go without the tokens that belong around it."""
        if len(text) > self.max_prompt * CHARACTERS_PER_TOKEN:
            self._too_long(f"{len(text)} characters")
        return self.checked(self.model.tokenizer.encode(text, add_special=add_special))

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """As `encode`, for a conversation."""
        length = sum(len(message["content"]) for message in messages)
        if length > self.max_prompt * CHARACTERS_PER_TOKEN:
            self._too_long(f"{length} characters")
        return self.checked(self.model.tokenizer.encode_chat(messages))

    def checked(self, tokens: list[int]) -> list[int]:
        """The same tokens, if they are not too many."""
        if len(tokens) > self.max_prompt:
            self._too_long(f"{len(tokens)} tokens")
        return tokens

    def _too_long(self, length: str) -> None:
        message = f"the prompt has {length}, and at most {self.max_prompt} tokens are taken: shorten it"
        raise ApiError(400, message, param="prompt", code="context_length_exceeded")

    def log_text(self, what: str, text: str | Sequence[object]) -> None:
        """Write a text to the log, where that is wanted."""
        if self.settings.log_prompts:
            log.info("%s: %r", what, text)

    @contextlib.asynccontextmanager
    async def answers(
        self, requests: Sequence[tuple[Sequence[int], GenerationOptions]], *, progress: bool = False
    ) -> AsyncIterator[list[Answer]]:
        """Submit requests; whatever becomes of the block, they end with it.

        With `progress`, answers also tell how far their prompts are read.

        Raises
        ------
        ApiError
            There are more than could ever wait.
        QueueFull
        UsageError
        """
        if len(requests) > self.settings.queue:
            raise ApiError(
                400, f"the request asks for {len(requests)} texts: ask for at most {self.settings.queue}"
            )
        begun: list[Answer] = []
        try:
            for prompt, options in requests:
                begun.append(await self._submit(prompt, options, progress))
                self._answers.add(begun[-1])
            yield begun
        finally:
            for answer in begun:
                answer.job.cancel()
                self._answers.discard(answer)

    async def _submit(self, prompt: Sequence[int], options: GenerationOptions, progress: bool) -> Answer:
        answer = Answer(self.metrics)

        def submit() -> Answer:
            answer.job = self.engine.submit(prompt, options, answer.receive, progress=progress)
            answer.submitted = time.perf_counter()
            return answer

        # Compiling a grammar takes time, so it is done there too.
        future = asyncio.get_running_loop().run_in_executor(self._tokenizing, submit)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:  # the client left, and the request may be submitted all the same
            future.add_done_callback(lambda done: done.exception() or done.result().job.cancel())
            raise

    async def walk(self, pieces: Iterator[T]) -> AsyncIterator[T]:
        """Go through work that is done in pieces on the engine's thread, between two steps of the others.

        One walk at a time, because each has a KV cache of its own.

        Raises
        ------
        QueueFull
            As many walks wait as may requests.
        """
        if self._walks >= self.settings.queue:
            raise QueueFull(f"{self._walks} requests are waiting already: try again later")
        self._walks += 1
        try:
            async with self._walk:
                while (
                    piece := await asyncio.wrap_future(self.engine.call(partial(_next, pieces)))
                ) is not None:
                    yield piece
        finally:
            self._walks -= 1

    def cancel(self) -> None:
        """End all answers; their clients are told that the server shuts down."""
        for answer in self._answers:
            answer.job.cancel()

    def close(self) -> None:
        """Cancel what is left, and end the threads."""
        self.closing = True
        self.engine.close(0.0)
        self._tokenizing.shutdown(cancel_futures=True)


def _next(pieces: Iterator[T], _model: object) -> T | None:
    return next(pieces, None)


def _shutting_down() -> ApiError:
    return ApiError(503, "the server is shutting down: try again later", code="shutting_down")
