"""Many requests on one model: a worker thread that takes them up, and tells of every token."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from shortlist.engine.events import DoneEvent, Event, FailedEvent, Timings, TokenEvent
from shortlist.engine.generation import choose
from shortlist.engine.growing import GrowingText
from shortlist.engine.model import Model
from shortlist.engine.options import GenerationOptions
from shortlist.errors import ShortlistError, UsageError


class QueueFull(ShortlistError):
    """No more requests are taken until some are done."""


@dataclass
class BatchStats:
    """Counters since the engine began, and what it has at hand now.

    Parameters
    ----------
    running, waiting
        Requests with a slot and without one, now.
    slots, queue, kv_tokens
        The limits.
    kv_tokens_used
        Positions of the KV memory that are taken, now.
    submitted, finished, cancelled, failed, refused
        Requests; refused ones found the queue full.
    steps
        Of the decoder.
    prompt_tokens, reused_tokens, generated_tokens
    head_rows, head_bytes
        Read of the head.
    """

    slots: int
    queue: int
    kv_tokens: int
    running: int = 0
    waiting: int = 0
    kv_tokens_used: int = 0
    submitted: int = 0
    finished: int = 0
    cancelled: int = 0
    failed: int = 0
    refused: int = 0
    steps: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    head_rows: int = 0
    head_bytes: int = 0


class Job:
    """A request that was submitted."""

    def __init__(self, text: GrowingText, on_event: Callable[[Event], None]):
        self.text = text
        self.on_event = on_event
        self.timings = Timings()
        self.mark = time.perf_counter()
        self.cancelled = False

    def cancel(self) -> None:
        """Stop after the token that is being computed; a `DoneEvent` follows, if none was sent yet."""
        self.cancelled = True


class BatchEngine:
    """Requests of one model, worked on by one thread, which sends the events.

    Parameters
    ----------
    model
        Nobody else may use it until the engine is closed; see `call`.
    slots
        Requests that are worked on at once.
    queue
        Requests that may wait for a slot.
    kv_tokens
        Positions of KV memory for all slots together; default is the context for each.
    """

    def __init__(self, model: Model, *, slots: int = 8, queue: int = 64, kv_tokens: int | None = None):
        self.model = model
        self._stats = BatchStats(slots, queue, kv_tokens or slots * model.context)
        self._waiting: deque[Job] = deque()
        self._calls: deque[tuple[Future, Callable[[Model], Any]]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._worker = threading.Thread(target=self._work, name="shortlist-batch", daemon=True)
        self._worker.start()

    def submit(
        self, prompt: Sequence[int], options: GenerationOptions, on_event: Callable[[Event], None]
    ) -> Job:
        """Queue a request.

        Parameters
        ----------
        prompt
            Tokens, from `Model.encode`.
        options
        on_event
            Called from the worker thread with every event; it must not block.

        Raises
        ------
        UsageError
            Prompt and answer can never fit, or the engine is closed.
        QueueFull
            As many requests wait as may.
        """
        options, generation = self.model.prepare(prompt, options)
        job = Job(GrowingText(prompt, options, self.model.tokenizer, generation), on_event)
        with self._changed:
            if self._closing:
                raise UsageError("the engine is closed and takes no more requests")
            if len(self._waiting) >= self._stats.queue:
                self._stats.refused += 1
                raise QueueFull(f"{self._stats.queue} requests are waiting already: try again later")
            self._stats.submitted += 1
            self._waiting.append(job)
            self._changed.notify()
        return job

    def call(self, function: Callable[[Model], Any]) -> Future:
        """Run function(model) on the worker thread, between two steps; the future has its result."""
        future: Future = Future()
        with self._changed:
            if self._closing:
                raise UsageError("the engine is closed and takes no more requests")
            self._calls.append((future, function))
            self._changed.notify()
        return future

    def stats(self) -> BatchStats:
        """A copy of the counters."""
        with self._changed:
            return BatchStats(**{**vars(self._stats), "waiting": len(self._waiting)})

    def close(self, drain_seconds: float = 0.0) -> None:
        """Take no more requests, wait that long for those that there are, cancel the others."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._worker.join(drain_seconds)
        with self._changed:
            for job in self._waiting:
                job.cancel()
            if running := self._running:
                running.cancel()
        self._worker.join()

    _running: Job | None = None

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._calls or self._closing)
                calls = list(self._calls)
                self._calls.clear()
                job = self._running = self._waiting.popleft() if self._waiting else None
                if not job and not calls and self._closing:
                    return
            self._answer(calls)
            if job:
                self._write(job)

    def _answer(self, calls: Sequence[tuple[Future, Callable[[Model], Any]]]) -> None:
        for future, function in calls:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(self.model))
                except Exception as error:
                    future.set_exception(error)

    def _write(self, job: Job) -> None:
        model, text, stats, timings = self.model, job.text, self._stats, job.timings
        session = model._session
        timings.queue += self._lap(job)
        stats.running = 1
        stats.prompt_tokens += len(text.tokens)
        try:
            while not text.finished and not job.cancelled:
                first = not text.generation.tokens
                hidden, reused = session.extend(text.tokens)
                seconds = self._lap(job)
                if first:
                    timings.prefill += seconds
                else:
                    timings.decode += seconds
                draw, logits = choose(
                    model.head, hidden, text.options, position=len(text.tokens), seen=text.seen
                )
                counts = text.generation.stats
                if first:
                    counts.reused_tokens = reused
                    stats.reused_tokens += reused
                counts.add(seconds, draw.read, full=draw.full)
                known = len(text.generation.logprobs or ())
                piece = text.add(draw, logits)
                logprobs = (text.generation.logprobs or [])[known:]
                timings.sampling += self._lap(job)
                stats.steps += 1
                stats.generated_tokens += 1
                stats.head_rows += draw.read.rows
                stats.head_bytes += draw.read.bytes
                share = draw.read.rows / model.config.vocab_size
                job.on_event(
                    TokenEvent(draw.token, piece, logprobs[0] if logprobs else None, draw.read.rows, share)
                )
                self._answer([self._calls.popleft() for _ in range(len(self._calls))])
        except Exception as error:
            stats.failed += 1
            job.on_event(FailedEvent(error))
        else:
            stats.cancelled += not text.finished
            stats.finished += text.finished
            job.on_event(DoneEvent(text.generation, timings))
        stats.running = 0

    @staticmethod
    def _lap(job: Job) -> float:
        now = time.perf_counter()
        seconds, job.mark = now - job.mark, now
        return seconds
