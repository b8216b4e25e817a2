"""The parts that endpoints share: the engine, a thread for tokenizing, an answer in progress."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from shortlist.engine.batch import BatchEngine, QueueFull
from shortlist.engine.events import DoneEvent, Event, FailedEvent, PromptEvent, Timings, TokenEvent
from shortlist.engine.generation import Generation
from shortlist.engine.options import GenerationOptions
from shortlist.engine.sequence import Sequence as TextSequence
from shortlist.engine.stats import RunStats
from shortlist.errors import ShortlistError
from shortlist.server.errors import ApiError
from shortlist.server.messages import Message
from shortlist.server.metrics import Metrics
from shortlist.server.schemas import Body
from shortlist.server.settings import CHARACTERS_PER_TOKEN, ServerSettings

log = logging.getLogger("shortlist.server")

T = TypeVar("T")


class Answer:
    """A choice in progress: iterate over its tokens and over the progress of its prefill.

    Attributes
    ----------
    generation, timings
        Set when the iteration has ended.
    submitted, ended : float
        Times by `time.perf_counter`.
    """

    sequence: TextSequence
    generation: Generation
    timings: Timings

    def __init__(self, metrics: Metrics):
        self.submitted = self.ended = 0.0
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()  # at most one event per requested token
        self._metrics = metrics
        self._latest: float | None = None

    def receive(self, event: Event) -> None:
        """Receive an event on the engine's thread."""
        now = time.perf_counter()
        if isinstance(event, TokenEvent):
            first = self._latest is None
            since = self.submitted if self._latest is None else self._latest
            self._metrics.observe_token(now - since, first=first, agrees=event.chosen.agrees)
            self._latest = now
        elif not isinstance(event, PromptEvent):
            self.ended = now
        with contextlib.suppress(RuntimeError):  # the server has stopped
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
    """An engine, with the functions that requests need to use it.

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
        self.context = min(self.model.context, engine.stats().kv_tokens)
        self.max_prompt = min(settings.max_prompt or self.context, self.context)
        # One thread, so that tokenizing long texts takes at most one core from the decoder.
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="shortlist-tokenize")
        self._walk = asyncio.Semaphore(1)
        self._walks = 0
        self.fingerprint = f"shortlist-{self.model.decoder.fingerprint[:12]}"
        # The layers, and all rows of the head.
        self.dense_bytes = self.model.decoder.layer_bytes + self.model.decoder.head_rows.nbytes
        self._answers: set[Answer] = set()  # answers in progress

    def check_body(self, body: Body) -> None:
        """Refuse a request for another model, and every request while the server shuts down.

        Raises
        ------
        ApiError
        """
        if self.closing:
            raise _shutting_down()
        if body.model is not None and body.model != self.settings.name:
            raise no_model(body.model, self.settings.name)

    async def on_tokenizer(self, function: Callable[[], T]) -> T:
        """Run a function that tokenizes or detokenizes, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, function)

    def encode(
        self, prompt: str | Sequence[int], *, add_special: bool = True, parse_special: bool = True
    ) -> list[int]:
        """Encode a prompt, if it is not too long; not to be called on the event loop.

        Raises
        ------
        ApiError
            The prompt is too long.
        UsageError
            The prompt cannot be used.
        """
        if isinstance(prompt, str) and prompt:
            prompt = self.encode_text(prompt, add_special=add_special, parse_special=parse_special)
        return self.checked(self.model.encode(prompt))

    def encode_text(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Encode a text that may be empty, with or without special tokens at its start and end."""
        self._check_length(len(text))
        tokenizer = self.model.tokenizer
        return self.checked(tokenizer.encode(text, add_special=add_special, parse_special=parse_special))

    def encode_chat(self, messages: Sequence[Message], **options: Any) -> list[int]:
        """Encode a conversation; errors as in `encode`.

        Parameters
        ----------
        messages
        **options
            Options of `Tokenizer.encode_chat`.
        """
        tokenizer = self.model.tokenizer
        if tokenizer.chat_template is None and not tokenizer.template_names:
            message = "this model has no chat template: send a prompt to /v1/completions"
            raise ApiError(400, message, param="messages", code="no_chat_template")
        plain = [message.plain() for message in messages]
        self._check_length(len(json.dumps([plain, options.get("tools")], ensure_ascii=False)))
        try:
            return self.checked(tokenizer.encode_chat(plain, **options))
        except ShortlistError as error:  # the template fails on these messages
            raise ApiError(400, self.public(str(error)), param="messages", code="invalid_value") from None

    def public(self, message: str) -> str:
        """A message without the path of the model on this machine."""
        return message.replace(self.model.tokenizer.name, self.settings.name)

    def checked(self, tokens: list[int]) -> list[int]:
        """Return the tokens, if they are not too many."""
        if len(tokens) > self.max_prompt:
            raise self._too_long(f"{len(tokens)} tokens")
        return tokens

    def room(self, prompt: Sequence[int], *, least: int) -> int:
        """The largest number of tokens that an answer to a prompt can have.

        Raises
        ------
        ApiError
            There are fewer than `least`.
        """
        room = self.context - len(prompt)
        if room < least:
            raise self._too_long(f"{len(prompt)} tokens, which leaves no room for an answer")
        return room

    def check_count(self, texts: int) -> None:
        """Refuse a request for more texts than the queue holds.

        Raises
        ------
        ApiError
        """
        if texts > self.settings.queue:
            message = f"the request asks for {texts} texts: ask for at most {self.settings.queue}"
            raise ApiError(400, message, code="too_many_texts")

    def _check_length(self, characters: int) -> None:
        if characters > self.max_prompt * CHARACTERS_PER_TOKEN:
            raise self._too_long(f"{characters} characters")

    def _too_long(self, length: str) -> ApiError:
        # In OpenAI's words, which its clients look for.
        message = f"This model's maximum context length is {self.context} tokens"
        if self.max_prompt < self.context:
            message += f", and at most {self.max_prompt} of them may be the prompt"
        message += f". However, the prompt has {length}: reduce its length"
        return ApiError(400, message, code="context_length_exceeded")

    def log_text(self, what: str, text: str | Sequence[object]) -> None:
        """Write a text to the log, where the settings say so."""
        if self.settings.log_prompts:
            log.info("%s: %r", what, text)

    @contextlib.asynccontextmanager
    async def answers(
        self, requests: Sequence[tuple[Sequence[int], GenerationOptions]], *, progress: bool = False
    ) -> AsyncIterator[list[Answer]]:
        """Submit requests; they end with the block, in whatever way it ends.

        With `progress`, answers also report the progress of prefill.

        Raises
        ------
        QueueFull
        UsageError
        """
        begun: list[Answer] = []
        try:
            for prompt, options in requests:
                begun.append(await self._submit(prompt, options, progress))
                self._answers.add(begun[-1])
            yield begun
        finally:
            for answer in begun:
                answer.sequence.cancel()
                self._answers.discard(answer)

    def empty_answer(self, prompt: Sequence[int]) -> Answer:
        """An answer without tokens, which has ended."""
        answer = Answer(self.metrics)
        stats = RunStats(self.model.head.name, self.model.config.vocab_size, 0, len(prompt))
        answer.submitted = answer.ended = time.perf_counter()
        answer.receive(DoneEvent(Generation(stats, None, finish_reason="length"), Timings()))
        return answer

    async def _submit(self, prompt: Sequence[int], options: GenerationOptions, progress: bool) -> Answer:
        answer = Answer(self.metrics)

        def submit() -> Answer:
            answer.sequence = self.engine.submit(prompt, options, answer.receive, progress=progress)
            answer.submitted = time.perf_counter()
            return answer

        # Compiling a grammar takes time, so it is done there too.
        future = asyncio.get_running_loop().run_in_executor(self._tokenizing, submit)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:  # the client left, but the request may be submitted already
            future.add_done_callback(lambda done: done.exception() or done.result().sequence.cancel())
            raise

    async def walk(self, pieces: Iterator[T]) -> AsyncIterator[T]:
        """Run work in pieces on the engine's thread, between steps of other requests.

        Only one walk runs at a time, because each has its own KV cache.

        Raises
        ------
        QueueFull
            The queue of walks is full.
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
        """End all answers with an error that says that the server shuts down."""
        for answer in self._answers:
            answer.sequence.cancel()

    def close(self) -> None:
        """Cancel remaining answers, and end the threads."""
        self.closing = True
        self.engine.close(0.0)
        self._tokenizing.shutdown(cancel_futures=True)


def _next(pieces: Iterator[T], _model: object) -> T | None:
    return next(pieces, None)


def no_model(name: str, served: str) -> ApiError:
    """The error for a request of another model, in OpenAI's wording."""
    message = f"The model `{name:.100}` does not exist: this server has `{served}`"
    return ApiError(404, message, param="model", code="model_not_found")


def _shutting_down() -> ApiError:
    return ApiError(503, "the server is shutting down: try again later", code="shutting_down")
