"""Many requests on one model: a queue, and a worker thread that steps the engine and sends the events."""

import threading
from collections import abc, deque
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from shortlist.engine.engine import Engine
from shortlist.engine.events import Event, FailedEvent
from shortlist.engine.model import Model
from shortlist.engine.options import GenerationOptions
from shortlist.engine.sequence import Sequence
from shortlist.engine.stats import EngineStats
from shortlist.errors import ShortlistError, UsageError


class QueueFull(ShortlistError):
    """No more requests are taken until some are done."""


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
        Positions of KV memory for all of them together; see `Slots`.
    token_seconds
        How long a text that is being written may wait for a token because prompts are read; infinite: prompts
        are read whole, first come, first served.
    """

    def __init__(
        self,
        model: Model,
        *,
        slots: int = 8,
        queue: int = 64,
        kv_tokens: int | None = None,
        token_seconds: float = 0.05,
    ):
        if slots < 1 or queue < 1:
            raise UsageError(
                f"at least one slot and one place in the queue are needed, not {slots} and {queue}"
            )
        self.model = model
        self._engine = Engine(
            model.decoder,
            model.dense_head,
            model.context,
            slots=slots,
            kv_tokens=kv_tokens,
            token_seconds=token_seconds,
        )
        self._engine.stats.queue = queue
        self._calls: deque[tuple[Future, abc.Callable[[Model], Any]]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._worker = threading.Thread(target=self._work, name="shortlist-batch", daemon=True)
        self._worker.start()

    def submit(
        self,
        prompt: abc.Sequence[int],
        options: GenerationOptions,
        on_event: abc.Callable[[Event], None],
        *,
        progress: bool = False,
    ) -> Sequence:
        """Queue a request.

        Parameters
        ----------
        prompt
            Tokens, from `Model.encode`.
        options
        on_event
            Called from the worker thread with every event; it must not block.
        progress
            Also send a `PromptEvent` after each part of the prompt but the last.

        Raises
        ------
        UsageError
            Prompt and answer can never fit, or the engine is closed.
        QueueFull
            As many requests wait as may.
        """
        sequence = self.model.prepare(prompt, self._fitting(len(prompt), options))
        sequence.on_event, sequence.progress = on_event, progress
        engine = self._engine
        with self._changed:
            self._check_open()
            if len(engine.waiting) >= engine.stats.queue:
                engine.stats.refused += 1
                raise QueueFull(f"{engine.stats.queue} requests are waiting already: try again later")
            engine.stats.submitted += 1
            engine.waiting.append(sequence)
            self._changed.notify()
        return sequence

    def call(self, function: abc.Callable[[Model], Any]) -> Future:
        """Run function(model) on the worker thread, between two steps; the future has its result."""
        future: Future = Future()
        with self._changed:
            self._check_open()
            self._calls.append((future, function))
            self._changed.notify()
        return future

    def stats(self) -> EngineStats:
        """A copy of the counters."""
        engine = self._engine
        return replace(
            engine.stats,
            waiting=len(engine.waiting),
            running=len(engine.running),
            kv_tokens_used=engine.memory.used,
        )

    def close(self, drain_seconds: float = 0.0) -> None:
        """Take no more requests, wait that long for those that there are, cancel the others."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._worker.join(drain_seconds)
        for sequence in (*self._engine.waiting, *self._engine.running):
            sequence.cancel()
        self._worker.join()

    def _check_open(self) -> None:
        if self._closing:
            raise UsageError("the engine is closed and takes no more requests")

    def _fitting(self, prompt: int, options: GenerationOptions) -> GenerationOptions:
        """The options, with an answer that fits the KV memory where its length was left open."""
        limit = self._engine.memory.limit
        if limit >= self.model.context:
            return options
        if prompt + (options.max_tokens or 1) > limit:
            raise UsageError(
                f"the prompt has {prompt} tokens and {options.max_tokens or 1} more are asked for, but the "
                f"KV memory holds {limit}: shorten the prompt, or give the engine more kv_tokens"
            )
        return replace(options, max_tokens=options.max_tokens or limit - prompt)

    # ---- the worker thread ---------------------------------------------------------------------------------

    def _work(self) -> None:
        engine = self._engine
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._busy or self._closing)
                    if not self._busy:
                        return
                self._answer_calls()
                if engine.waiting or engine.running:
                    engine.step()
        except Exception as error:  # a defect of ours: say so to everyone rather than leave them waiting
            with self._changed:
                self._closing = True
            for sequence in (*engine.running, *engine.waiting):
                sequence.emit(FailedEvent(error))
            raise

    @property
    def _busy(self) -> bool:
        return bool(self._engine.waiting or self._engine.running or self._calls)

    def _answer_calls(self) -> None:
        while self._calls:
            future, function = self._calls.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(self.model))
                except Exception as error:
                    future.set_exception(error)
