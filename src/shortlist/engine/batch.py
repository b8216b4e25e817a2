"""Many requests on one model: a worker thread computes their next tokens together, and tells of each.

A step of the decoder takes one token of every text that is being written and some tokens of prompts that
are being read, as many as the texts can wait for (`schedule`, `cost`). Requests join and leave between steps.
What a text gets does not depend on the others: the decoder computes a token of many as it does one alone.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np

from shortlist.engine.batch_stats import BatchStats
from shortlist.engine.cost import StepCost
from shortlist.engine.events import DoneEvent, Event, FailedEvent, PromptEvent, TokenEvent
from shortlist.engine.greatest import Greatest
from shortlist.engine.job import Job
from shortlist.engine.model import Model
from shortlist.engine.options import GenerationOptions
from shortlist.engine.schedule import deal, read_budget
from shortlist.engine.slots import Slots
from shortlist.errors import ShortlistError, UsageError

MOST = 256
"""Tokens of prompts in a step while no text is being written: enough to use the kernels well, few enough that
a request that joins waits for little."""


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
        Positions of KV memory for all slots together; see `Slots`.
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
        self._slots = Slots(model.decoder, slots, model.context, kv_tokens)
        self._stats = BatchStats(slots, queue, self._slots.limit)
        self._token_seconds = token_seconds
        self._cost = StepCost()
        self._greatest = Greatest(model.dense_head)
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._calls: deque[tuple[Future, Callable[[Model], Any]]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._worker = threading.Thread(target=self._work, name="shortlist-batch", daemon=True)
        self._worker.start()

    def submit(
        self,
        prompt: Sequence[int],
        options: GenerationOptions,
        on_event: Callable[[Event], None],
        *,
        progress: bool = False,
    ) -> Job:
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
        job = Job(self.model.prepare(prompt, self._fitting(len(prompt), options)), on_event, progress)
        with self._changed:
            self._check_open()
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
            self._check_open()
            self._calls.append((future, function))
            self._changed.notify()
        return future

    def stats(self) -> BatchStats:
        """A copy of the counters."""
        with self._changed:
            return replace(
                self._stats,
                waiting=len(self._waiting),
                running=len(self._running),
                kv_tokens_used=self._slots.used,
                dense_steps=self._greatest.dense_steps,
            )

    def close(self, drain_seconds: float = 0.0) -> None:
        """Take no more requests, wait that long for those that there are, cancel the others."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._worker.join(drain_seconds)
        with self._changed:
            for job in (*self._waiting, *self._running):
                job.cancel()
        self._worker.join()

    def _check_open(self) -> None:
        if self._closing:
            raise UsageError("the engine is closed and takes no more requests")

    def _fitting(self, prompt: int, options: GenerationOptions) -> GenerationOptions:
        """The options, with an answer that fits the KV memory where its length was left open."""
        limit = self._slots.limit
        if limit >= self.model.context:
            return options
        if prompt + (options.max_tokens or 1) > limit:
            raise UsageError(
                f"the prompt has {prompt} tokens and {options.max_tokens or 1} more are asked for, but the "
                f"KV memory holds {limit}: shorten the prompt, or give the engine more kv_tokens"
            )
        return replace(options, max_tokens=options.max_tokens or limit - prompt)

    # ---- the worker thread ------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._take_turns()
        except Exception as error:  # a defect of ours: say so to everyone rather than leave them waiting
            with self._changed:
                self._closing = True
            for job in (*self._running, *self._waiting):
                job.tell(FailedEvent(error))
            raise

    def _take_turns(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._running or self._calls or self._closing)
                if self._closing and not (self._waiting or self._running or self._calls):
                    return
            self._answer_calls()
            self._leave()
            self._join()
            if self._running:
                self._step()

    def _answer_calls(self) -> None:
        while self._calls:
            future, function = self._calls.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(self.model))
                except Exception as error:
                    future.set_exception(error)

    def _leave(self) -> None:
        """End what was cancelled."""
        for job in [job for job in self._running if job.cancelled]:
            self._end(job)
        with self._changed:
            cancelled = [job for job in self._waiting if job.cancelled]
            self._waiting = deque(job for job in self._waiting if not job.cancelled)
        for job in cancelled:
            job.timings.queue += job.lap()
            self._end(job)

    def _join(self) -> None:
        """Give slots to those that wait, in their order."""
        while self._waiting:
            job = self._waiting[0]
            job.lease = self._slots.lend(job.text.tokens, job.length)
            if job.lease is None:
                return
            with self._changed:
                self._waiting.popleft()
                self._running.append(job)
            job.loads = self.model.decoder.expert_loads
            job.text.generation.stats.reused_tokens = job.computed
            job.take_shared()
            job.timings.queue += job.lap()
            self._stats.prompt_tokens += len(job.text.tokens)

    def _step(self) -> None:
        """One pass of the decoder, and the next token of every text that it brings to its end."""
        counts = self._plan()
        writing = [job for job, _ in counts if job.writes]
        attended = sum(count * (job.computed + count // 2) for job, count in counts)
        prompts = sum(count for job, count in counts if not job.writes)
        started = time.perf_counter()
        try:
            hidden = self.model.decoder.forward_together(
                [(job.next_tokens(count), job.slot.cache) for job, count in counts]
            )
        except Exception as error:
            for job, _ in counts:
                self._end(job, error)
            return
        for job in self._running:
            seconds = job.lap()
            if job.writes:
                job.timings.decode += seconds
            else:
                job.timings.prefill += seconds
        ends = np.cumsum([count for _, count in counts]) - 1
        chosen = [(job, hidden[end]) for (job, _), end in zip(counts, ends, strict=True) if not job.remaining]
        for job, _ in counts:
            if job.progress and job.remaining and not job.writes:
                job.tell(PromptEvent(job.computed, len(job.text.tokens)))
        stepped = time.perf_counter()
        self._stats.step_seconds += stepped - started
        self._choose(chosen)
        for job in self._running:
            job.timings.sampling += job.lap()
        ended = time.perf_counter()
        self._stats.steps += 1
        self._stats.head_seconds += ended - stepped
        self._cost.observe(len(writing), prompts, attended, ended - started)

    def _plan(self) -> list[tuple[Job, int]]:
        """Jobs that take part in the next step, and how many tokens of each it computes."""
        writing = [job for job in self._running if job.writes]
        reading = [job for job in self._running if not job.writes and job.take_shared()]
        if not reading:
            return [(job, 1) for job in writing]
        remaining = [job.remaining for job in reading]
        budget = read_budget(
            self._cost,
            remaining,
            [job.computed for job in reading],
            [job.computed for job in writing],
            self._token_seconds,
            MOST if math.isfinite(self._token_seconds) else sum(remaining),
        )
        dealt = zip(reading, deal(remaining, budget), strict=True)
        return [(job, 1) for job in writing] + [(job, count) for job, count in dealt if count]

    def _choose(self, states: Sequence[tuple[Job, np.ndarray]]) -> None:
        """The next token of each text; those that take the greatest logit of one head choose together."""
        together: dict[int, list[tuple[Job, np.ndarray]]] = {}
        for job, hidden in states:
            chooser = job.text.chooser
            if chooser.takes_greatest:
                together.setdefault(id(chooser.head), []).append((job, hidden))
            else:
                self._tell(job, lambda job=job, hidden=hidden: job.choose(hidden))
        for group in together.values():
            head = group[0][0].text.chooser.head
            try:
                winners = self._greatest(head, np.stack([hidden for _, hidden in group]))
            except Exception as error:
                for job, _ in group:
                    self._end(job, error)
                continue
            for (job, hidden), winner in zip(group, winners, strict=True):
                self._tell(job, lambda job=job, hidden=hidden, winner=winner: job.examine(winner, hidden))

    def _tell(self, job: Job, choose: Callable[[], Any]) -> None:
        """Take up the token that `choose` returns, and send the events."""
        text, stats = job.text, self._stats
        counts = text.generation.stats
        try:
            chosen = choose()
            piece = text.add(chosen)
        except Exception as error:
            self._end(job, error)
            return
        times = job.timings
        spent = times.prefill + times.decode + times.sampling - counts.prefill_seconds - counts.decode_seconds
        counts.layer_bytes = self.model.decoder.layer_bytes
        counts.add(spent, chosen.read, full=chosen.full, agrees=chosen.agrees)
        if counts.draws == 1:
            stats.reused_tokens += counts.reused_tokens
        stats.generated_tokens += 1
        stats.head_rows += chosen.read.rows
        stats.head_bytes += chosen.read.bytes
        share = chosen.read.rows / counts.vocab_size
        job.tell(TokenEvent(chosen, piece, share, counts.layer_bytes + chosen.read.bytes))
        if text.finished:
            self._end(job)

    def _end(self, job: Job, error: Exception | None = None) -> None:
        """Give the slot back and send the last event."""
        if job in self._running:
            job.timings.sampling += job.lap()
            with self._changed:
                self._running = [other for other in self._running if other is not job]
            job.text.generation.stats.expert_loads = self.model.decoder.expert_loads - job.loads
            self._slots.give_back(job.slot)
        if error is not None:
            self._stats.failed += 1
            job.tell(FailedEvent(error))
        else:
            self._stats.finished += job.text.finished
            self._stats.cancelled += not job.text.finished
            job.tell(DoneEvent(job.text.generation, job.timings))
